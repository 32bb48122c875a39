// Package watch tells when a source file of a command has changed.
package watch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/gostream/gostream/cmd/gostream/internal/gobuild"
)

// Settle is how long nothing must change before a change is told: an editor writes several
// files, and a file in several steps.
const Settle = 200 * time.Millisecond

// Watcher watches folders. Its methods may be called concurrently.
type Watcher struct {
	fs      *fsnotify.Watcher
	inputs  chan gobuild.Inputs
	changes chan []string
	errors  chan error
	done    chan struct{}
}

// New returns a watcher that watches nothing yet. The caller owes a Close.
func New() (*Watcher, error) {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		fs:      fs,
		inputs:  make(chan gobuild.Inputs),
		changes: make(chan []string, 1),
		errors:  make(chan error, 1),
		done:    make(chan struct{}),
	}
	go w.run()
	return w, nil
}

// Set replaces what is watched. It returns when changes are noticed. A folder that cannot
// be watched is an error; the others are.
func (w *Watcher) Set(in gobuild.Inputs) error {
	want := append(slices.Clone(in.Dirs), in.Embeds...)
	var failed error
	for _, dir := range w.fs.WatchList() {
		if !slices.Contains(want, dir) {
			_ = w.fs.Remove(dir) // it may be gone by itself
		}
	}
	for _, dir := range want {
		if err := w.fs.Add(dir); err != nil && failed == nil {
			failed = err
		}
	}
	select {
	case w.inputs <- in:
	case <-w.done:
	}
	return failed
}

// Changes receives the files that have changed, sorted. Further changes add up until they
// are received.
func (w *Watcher) Changes() <-chan []string { return w.changes }

// Errors receives what went wrong with watching; changes may then have been missed.
func (w *Watcher) Errors() <-chan error { return w.errors }

// Close ends the watcher.
func (w *Watcher) Close() error {
	err := w.fs.Close()
	<-w.done
	return err
}

func (w *Watcher) run() {
	defer close(w.done)
	var (
		in      gobuild.Inputs
		changed []string
		settled = time.NewTimer(Settle)
	)
	settled.Stop()
	defer settled.Stop()
	for {
		select {
		case in = <-w.inputs:
		case e, ok := <-w.fs.Events:
			if !ok {
				return
			}
			if e.Op == fsnotify.Chmod || !matters(in, e.Name) && !(in.Incomplete && isNewFolder(e)) {
				continue
			}
			changed = append(changed, e.Name)
			settled.Reset(Settle)
		case err, ok := <-w.fs.Errors:
			if !ok {
				return
			}
			select {
			case w.errors <- err:
			default:
			}
		case <-settled.C:
			// What was not received yet is told together with this.
			select {
			case earlier := <-w.changes:
				changed = append(changed, earlier...)
			default:
			}
			slices.Sort(changed)
			w.changes <- slices.Compact(changed)
			changed = nil
		}
	}
}

// matters reports whether a build reads the file.
func matters(in gobuild.Inputs, file string) bool {
	dir, name := filepath.Split(file)
	if strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp") { // editors' own files
		return false
	}
	if slices.Contains(in.Embeds, filepath.Clean(dir)) {
		return true
	}
	switch {
	case strings.HasPrefix(name, "."), strings.HasPrefix(name, "_"): // the go command passes over them
		return false
	case name == "go.mod", name == "go.sum":
		return true
	}
	return strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

// isNewFolder reports a folder that has come and may hold the package that a build missed.
func isNewFolder(e fsnotify.Event) bool {
	if !e.Has(fsnotify.Create) || !gobuild.MayHoldGo(filepath.Base(e.Name)) {
		return false
	}
	info, err := os.Stat(e.Name)
	return err == nil && info.IsDir()
}
