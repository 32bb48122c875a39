//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd || windows)

package embedded

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// lockFile fails: two servers in one folder would ruin it.
func lockFile(string) (*os.File, error) {
	return nil, fmt.Errorf("locking files on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

func unlockFile(f *os.File) error { return f.Close() }
