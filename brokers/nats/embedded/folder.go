package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// ErrInUse is in the error of [Start] when a server has the folder already, in this
// process or another.
var ErrInUse = errors.New("the folder is in use by another server")

// lockName is the file in Dir that is locked. It stays there: were it removed, two
// servers could each hold the lock of a file of that name.
const lockName = "gostream-embedded.lock"

// A folder is where JetStream is.
type folder struct {
	path string
	lock *os.File // nil if it is temporary
}

// openFolder makes the folder and takes it for one server.
func openFolder(c Config) (*folder, error) {
	if c.Memory {
		path, err := os.MkdirTemp("", "gostream-embedded-*")
		if err != nil {
			return nil, fmt.Errorf("the temporary folder: %w", err)
		}
		return &folder{path: path}, nil
	}
	path, err := filepath.Abs(c.Dir) // the program may change its working directory
	if err == nil {
		err = os.MkdirAll(path, 0o750)
	}
	if err != nil {
		return nil, fmt.Errorf("Config.Dir: %w", err)
	}
	lock, err := lockFile(filepath.Join(path, lockName))
	if err != nil {
		return nil, fmt.Errorf("Config.Dir %s: %w", path, err)
	}
	return &folder{path: path, lock: lock}, nil
}

// close gives the folder up, and removes it if it is temporary.
func (f *folder) close() error {
	if f.lock == nil {
		return os.RemoveAll(f.path)
	}
	return unlockFile(f.lock)
}
