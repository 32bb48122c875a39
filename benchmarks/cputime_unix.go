//go:build unix

package main

import (
	"syscall"
	"time"
)

// cpuTime is the processor time of this process so far, of all its threads. It is what
// stays when others use the processors too.
func cpuTime() (time.Duration, bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}
