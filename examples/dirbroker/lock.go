package dirbroker

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
)

// connections is the folder of the locks. No queue has its name, which begins with
// a dot.
const connections = ".connections"

// newID returns a name for a connection that no other has.
func newID() string { return strings.ToLower(rand.Text()[:13]) }

// hold makes the file of the connection id and locks it. The lock ends when the
// file is closed, or the process ends. The file appears with its lock: were it
// locked afterwards, somebody could take the connection for dead in between.
func hold(root *os.Root, id string) (*os.File, error) {
	if err := root.MkdirAll(connections, 0o700); err != nil {
		return nil, err
	}
	tmp := path.Join(connections, id+".tmp")
	f, err := root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	locked, err := tryLock(f)
	if err == nil && !locked {
		err = errors.New("a new file is locked already")
	}
	if err == nil {
		err = root.Rename(tmp, path.Join(connections, id))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), root.Remove(tmp))
	}
	return f, nil
}

// release removes the file of the connection id and ends its lock.
func release(root *os.Root, id string, f *os.File) error {
	return errors.Join(ignoreMissing(root.Remove(path.Join(connections, id))), f.Close())
}

// alive reports whether the connection id holds its lock. It removes the file of
// one that is dead.
func alive(root *os.Root, id string) (bool, error) {
	f, err := root.OpenFile(path.Join(connections, id), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	locked, err := tryLock(f)
	if err != nil || !locked {
		return true, err
	}
	return false, ignoreMissing(root.Remove(path.Join(connections, id)))
}

// ignoreMissing is err unless that says that a file is not there: somebody else was
// faster.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
