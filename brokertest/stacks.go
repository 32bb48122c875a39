package brokertest

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"strconv"
	"strings"
)

// Goroutines inherit the profiler labels of the goroutine that starts them. Each
// check runs with a label of its own, and so its goroutines, and those that the
// broker started for it, can be told from those of everybody else.

const labelKey = "brokertest"

func (e *env) labels() pprof.LabelSet { return pprof.Labels(labelKey, e.id) }

// stacks returns the stacks of the goroutines of this check.
func (e *env) stacks() string {
	_, stacks := e.goroutines()
	return stacks
}

// goroutines returns how many goroutines the check has, its own included, and
// their stacks.
func (e *env) goroutines() (n int, stacks string) {
	var all bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&all, 1); err != nil {
		return 0, err.Error()
	}
	label := fmt.Sprintf("%q:%q", labelKey, e.id)
	var b strings.Builder
	for block := range strings.SplitSeq(all.String(), "\n\n") {
		head, rest, _ := strings.Cut(block, "\n")
		if strings.HasPrefix(head, "goroutine profile:") {
			head, rest, _ = strings.Cut(rest, "\n")
		}
		labels, frames, _ := strings.Cut(rest, "\n")
		if !strings.Contains(labels, label) {
			continue
		}
		count, _, _ := strings.Cut(head, " ")
		k, err := strconv.Atoi(count)
		if err != nil {
			continue
		}
		n += k
		fmt.Fprintf(&b, "%d goroutine(s) at\n%s\n", k, frames)
	}
	return n, b.String()
}
