package dirbroker

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"
)

// The folders of a queue.
const (
	tmpDir     = "tmp"
	readyDir   = "ready"
	claimedDir = "claimed"
	corruptDir = "corrupt"
)

// reclaimEvery is how often a queue whose subscriptions wait looks for connections
// that died, and how long a listing is believed.
const reclaimEvery = time.Second

// queue is the folder of a queue as one connection sees it. It alone knows how the
// folder is laid out. All methods are safe for concurrent use; what makes them so is
// that each changes the folder by one rename or remove.
type queue struct {
	name string
	root *os.Root
	id   string // of the connection
	sync bool   // whether files must reach the disk

	mu        sync.Mutex
	subs      map[*subscription]struct{} // to be woken
	returned  uint64                     // counts what came back: listings made before are out of date
	reclaimed time.Time                  // when reclaim ran last
}

// makeFolders makes the folders that are not there.
func (q *queue) makeFolders() error {
	for _, dir := range []string{tmpDir, readyDir, path.Join(claimedDir, q.id), corruptDir} {
		if err := q.root.MkdirAll(q.in(dir), 0o700); err != nil {
			return err
		}
	}
	return nil
}

func (q *queue) in(elements ...string) string {
	return path.Join(q.name, path.Join(elements...))
}

func (q *queue) claimedBy(id string, e entry) string { return q.in(claimedDir, id, e.String()) }

// put makes a new message. What a crash leaves behind is a file in tmp, which nobody
// takes for a message.
func (q *queue) put(e entry, data []byte) error {
	tmp := q.in(tmpDir, e.String())
	err := q.write(tmp, data)
	if err == nil {
		err = q.root.Rename(tmp, q.in(readyDir, e.String()))
	}
	if err != nil {
		return errors.Join(err, ignoreMissing(q.root.Remove(tmp)))
	}
	if err := q.syncDir(readyDir); err != nil {
		return err
	}
	q.wake()
	return nil
}

func (q *queue) write(name string, data []byte) error {
	f, err := q.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && q.sync {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// syncDir makes the names in a folder reach the disk.
func (q *queue) syncDir(elements ...string) error {
	if !q.sync {
		return nil
	}
	f, err := q.root.Open(q.in(elements...))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// list returns the entries of a folder in the order of delivery. Files that are not
// ours are left out.
func (q *queue) list(elements ...string) ([]entry, error) {
	files, err := fs.ReadDir(q.root.FS(), q.in(elements...)) // sorts
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(files))
	for _, f := range files {
		if e, ok := parseEntry(f.Name()); ok {
			entries = append(entries, e)
		}
	}
	return entries, nil
}

// errTaken: somebody else was faster.
var errTaken = errors.New("another consumer has the message")

// claim takes the message e for this connection and reads it. The rename decides who
// gets it; errTaken means that somebody else did.
func (q *queue) claim(e entry) (entry, content, error) {
	mine := entry{seq: e.seq, from: e.from, count: e.count + 1}
	ready := q.in(readyDir, e.String())
	if err := q.root.Rename(ready, q.claimedBy(q.id, mine)); err != nil {
		// One of two is missing: the message, or the folder of our claims.
		if _, gone := q.root.Stat(ready); errors.Is(gone, fs.ErrNotExist) {
			err = errTaken
		}
		return mine, content{}, err
	}
	data, err := q.root.ReadFile(q.claimedBy(q.id, mine))
	if err != nil {
		// Back with it; should that fail as well, Shutdown does it.
		return mine, content{}, errors.Join(err, q.giveBack(q.id, mine, 0))
	}
	c, err := decode(data)
	if err != nil {
		return mine, content{}, errors.Join(err, q.root.Rename(q.claimedBy(q.id, mine), q.in(corruptDir, mine.String())))
	}
	return mine, c, nil
}

// remove removes a claimed message.
func (q *queue) remove(e entry) error { return q.root.Remove(q.claimedBy(q.id, e)) }

// giveBack makes a message that the connection id has claimed ready again, not to be
// delivered before due.
func (q *queue) giveBack(id string, e entry, due int64) error {
	again := e
	again.due = due
	if err := q.root.Rename(q.claimedBy(id, e), q.in(readyDir, again.String())); err != nil {
		return err
	}
	q.mu.Lock()
	q.returned++
	q.mu.Unlock()
	q.wake()
	return nil
}

// giveBackAll makes everything ready that the connection id has claimed, and removes
// its folder. It serves a Shutdown and a crash alike. It stops when ctx ends.
func (q *queue) giveBackAll(ctx context.Context, id string) error {
	entries, err := q.list(claimedDir, id)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := q.giveBack(id, e, 0); ignoreMissing(err) != nil {
			return err
		}
	}
	if err := errors.Join(q.syncDir(readyDir), q.syncDir(claimedDir, id)); err != nil {
		return ignoreMissing(err)
	}
	return ignoreMissing(q.root.Remove(q.in(claimedDir, id)))
}

// reclaim makes ready what connections have claimed that died, and removes the files
// that they did not finish. It does nothing when it did so a moment ago.
func (q *queue) reclaim(ctx context.Context) error {
	q.mu.Lock()
	due := time.Since(q.reclaimed) >= reclaimEvery
	if due {
		q.reclaimed = time.Now()
	}
	q.mu.Unlock()
	if !due {
		return nil
	}
	claims, err := fs.ReadDir(q.root.FS(), q.in(claimedDir))
	if err != nil {
		return err
	}
	for _, c := range claims {
		if living, err := alive(q.root, c.Name()); err != nil || living {
			continue // or that cannot be found out: the next round tries again
		}
		if err := q.giveBackAll(ctx, c.Name()); err != nil {
			return err
		}
	}
	unfinished, err := q.list(tmpDir)
	if err != nil {
		return err
	}
	for _, e := range unfinished {
		if living, err := alive(q.root, e.from); err == nil && !living {
			if err := ignoreMissing(q.root.Remove(q.in(tmpDir, e.String()))); err != nil {
				return err
			}
		}
	}
	return nil
}

// attach adds a subscription to those that are woken; detach takes it out.
func (q *queue) attach(s *subscription) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.subs[s] = struct{}{}
}

func (q *queue) detach(s *subscription) {
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.subs, s)
}

// wake wakes the subscriptions of this connection that wait.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for s := range q.subs {
		s.signal()
	}
}

// comebacks is a number that changes when a message comes back.
func (q *queue) comebacks() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.returned
}
