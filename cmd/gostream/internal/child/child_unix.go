//go:build unix

package child

import (
	"os"
	"syscall"
)

// Terminate asks a process to end.
var Terminate os.Signal = syscall.SIGTERM

func signal(p *os.Process, s os.Signal) error { return p.Signal(s) }

func exitCode(s *os.ProcessState) int {
	if w, ok := s.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return 128 + int(w.Signal())
	}
	return s.ExitCode()
}
