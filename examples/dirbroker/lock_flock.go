//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package dirbroker

import (
	"errors"
	"os"
	"syscall"
)

// tryLock locks f and reports whether nobody else had it.
func tryLock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
