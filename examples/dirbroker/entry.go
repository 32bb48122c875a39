package dirbroker

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// entry is the name of a message's file. It holds what changes in the life of a
// message; a rename changes it.
type entry struct {
	seq   int64  // the time of the publish in Unix nanoseconds, which is the order
	from  string // the connection that published it: no two give the same name
	count int    // how many deliveries were begun
	due   int64  // not to be delivered before that time in Unix nanoseconds; 0: at once
}

// String returns the name. Names sort as their messages are to be delivered.
func (e entry) String() string {
	return fmt.Sprintf("%019d-%s-%d-%d", e.seq, e.from, e.count, e.due)
}

// parseEntry is the reverse of String. ok is false for a file that is not ours.
func parseEntry(name string) (e entry, ok bool) {
	parts := strings.Split(name, "-")
	if len(parts) != 4 {
		return entry{}, false
	}
	var errs [3]error
	e.seq, errs[0] = strconv.ParseInt(parts[0], 10, 64)
	e.from = parts[1]
	e.count, errs[1] = strconv.Atoi(parts[2])
	e.due, errs[2] = strconv.ParseInt(parts[3], 10, 64)
	return e, errs == [3]error{} && e.String() == name
}

var lastSeq atomic.Int64

// nextSeq returns a number that is greater than all that it returned before: the
// time, or one more than the last number where the clock stands or goes back.
func nextSeq() int64 {
	for {
		last := lastSeq.Load()
		next := max(last+1, time.Now().UnixNano())
		if lastSeq.CompareAndSwap(last, next) {
			return next
		}
	}
}
