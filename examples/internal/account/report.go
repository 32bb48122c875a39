package account

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gostream/gostream"
)

// Report tells a person how it goes: on a terminal in one line that is drawn again
// and again, elsewhere in a few lines; and what came of it at the end.
type Report struct {
	Out    io.Writer
	Redraw bool // Out is a terminal

	drawn    bool // the line stands there, without its end
	quarters int  // that have their line
}

// NewReport returns a report on out.
func NewReport(out *os.File) *Report {
	info, err := out.Stat()
	return &Report{Out: out, Redraw: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// Watch shows the progress until the ledger has seen all orders: nil. A service that
// ends before is an error, and so is a ctx: its cause where it was late.
func (r *Report) Watch(ctx context.Context, svc *gostream.Service, l *Ledger) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r.Progress(l.Counts())
		select {
		case <-tick.C:
		case <-l.Done():
			r.Progress(l.Counts())
			return nil
		case <-svc.Done():
			return errors.New("the service ended early") // Shutdown says why
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return context.Cause(ctx)
			}
			return errors.New("interrupted")
		}
	}
}

// Progress says how far it is.
func (r *Report) Progress(c Counts) {
	settled, dead := c.Settled(), c.DeadLettered()
	if r.Redraw {
		const width = 24
		filled := width * settled / max(c.Read, 1)
		bar := strings.Repeat("#", filled) + strings.Repeat(".", width-filled)
		fmt.Fprintf(r.Out, "\r[%s] %4d/%d  confirmed %4d  retries %3d  dead %3d", bar, settled, c.Read, c.Confirmed, c.Retries, dead)
		r.drawn = true
		return
	}
	if quarters := 4 * settled / max(c.Read, 1); quarters > r.quarters {
		r.quarters = quarters
		fmt.Fprintf(r.Out, "%4d of %d orders: %d confirmed, %d dead-lettered, %d retries\n", settled, c.Read, c.Confirmed, dead, c.Retries)
	}
}

// Summary says what became of the orders.
func (r *Report) Summary(c Counts, took time.Duration) {
	if r.drawn {
		fmt.Fprintln(r.Out)
		r.drawn = false
	}
	fmt.Fprintln(r.Out)
	w := tabwriter.NewWriter(r.Out, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(what string, n int) { fmt.Fprintf(w, "%-22s\t%d\t\n", what, n) }
	row("read", c.Read)
	row("confirmed", c.Confirmed)
	if alone := c.Handled == c.Settled() && c.Repeats == 0; alone {
		row("  at the first attempt", c.Confirmed-c.Recovered)
		row("  after retries", c.Recovered)
	}
	row("dead-lettered", c.DeadLettered())
	for _, reason := range slices.Sorted(maps.Keys(c.Dead)) {
		row("  "+reason, c.Dead[reason])
	}
	if c.Handled != c.Settled() {
		row("handled by this run", c.Handled)
	}
	if c.Repeats != 0 {
		row("settled a second time", c.Repeats)
	}
	if rest := c.Read - c.Settled(); rest != 0 {
		row("not settled", rest)
	}
	w.Flush()
	relation := "="
	if c.Settled() != c.Read {
		relation = "≠"
	}
	fmt.Fprintf(r.Out, "\n%d read %s %d confirmed + %d dead-lettered, in %.1f s\n", c.Read, relation, c.Confirmed, c.DeadLettered(), took.Seconds())
}
