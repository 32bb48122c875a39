package child

import (
	"os"
	"syscall"
)

// Terminate asks a process to end. Windows has nothing that asks: it ends the process.
var Terminate os.Signal = os.Kill

func attributes() *syscall.SysProcAttr { return nil }

// signal leaves os.Interrupt to the console, which sends it to all of its processes.
func signal(p *os.Process, s os.Signal) error {
	if s == os.Interrupt {
		return nil
	}
	return p.Kill()
}

func exitCode(s *os.ProcessState) int { return s.ExitCode() }
