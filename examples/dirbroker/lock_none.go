//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package dirbroker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
)

// tryLock fails: without a lock that ends with its process a consumer that crashed
// would not be noticed.
func tryLock(*os.File) (bool, error) {
	return false, fmt.Errorf("locking files on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}
