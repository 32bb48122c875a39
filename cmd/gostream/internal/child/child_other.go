//go:build !unix && !windows

package child

import (
	"os"
	"syscall"
)

// Terminate asks a process to end.
var Terminate os.Signal = os.Kill

func attributes() *syscall.SysProcAttr { return nil }

func signal(p *os.Process, s os.Signal) error { return p.Signal(s) }

func exitCode(s *os.ProcessState) int { return s.ExitCode() }
