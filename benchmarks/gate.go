package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// A goal is what gostream must reach against a peer, or in allocations.
type goal struct {
	work   work
	peers  []string // whose time is to be at least times that of gostream
	times  float64
	gate   float64 // below this the gate fails
	allocs func() (float64, error)
}

// goals are looked at with 64 messages in flight. The gate is far below the goal, since
// the machine may be noisy, and one of the two ratios, of the time and of the CPU time,
// is enough to pass. docs/benchmarks.md says which goals are reached.
var goals = []goal{
	{noop, []string{"watermill"}, 15, 5, func() (float64, error) { return 3, nil }},
	{jsonReply, []string{"watermill", "watermill cqrs"}, 4, 2, func() (float64, error) {
		n, err := jsonAllocs()
		return n + 5, err
	}},
}

const (
	// slack is for the allocations that are not of a message: those of the runtime.
	slack = 0.05
	// gateRounds and gateSample keep the gate far under two minutes.
	gateRounds = 5
	gateSample = 200 * time.Millisecond
)

var errGate = errors.New("benchmarks: a goal was missed")

// gate measures what the goals are about and compares.
func gate(ctx context.Context, s settings, out io.Writer) error {
	s.rounds, s.sample = gateRounds, gateSample
	missed := false
	fmt.Fprint(out, thisMachine())
	for _, g := range goals {
		limit, err := g.allocs()
		if err != nil {
			return err
		}
		c, err := peers(g.work, 64, false).run(ctx, s)
		if err != nil {
			return err
		}
		for _, line := range g.check(c, limit) {
			missed = missed || line.missed
			fmt.Fprintln(out, line)
		}
	}
	for _, g := range brokerGoals {
		lines, err := g.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", g.group, err)
		}
		for _, line := range lines {
			missed = missed || line.missed
			fmt.Fprintln(out, line)
		}
	}
	if missed {
		return errGate
	}
	return nil
}

// line is one comparison of the gate.
type line struct {
	text   string
	missed bool
}

func (l line) String() string {
	if l.missed {
		return "MISSED  " + l.text
	}
	return "ok      " + l.text
}

// check compares a case with the goal. A row that is not there is a miss.
func (g goal) check(c Case, allocs float64) []line {
	var lines []line
	row, ok := c.row("gostream")
	got := -1.0
	if ok {
		got = *row.Allocs
	}
	lines = append(lines, line{
		fmt.Sprintf("%s: %.2f allocations a message, at most %.0f", c.Name, got, allocs),
		!ok || got > allocs+slack,
	})
	for _, name := range g.peers {
		row, ok := c.row(name)
		var wall, cpu Summary
		if ok && row.Ratio != nil {
			wall = *row.Ratio
		}
		if ok && row.CPURatio != nil {
			cpu = *row.CPURatio
		}
		lines = append(lines, line{
			fmt.Sprintf("%s: %s needs %s of the time (%s – %s), %s of the CPU time; the goal is %s, the gate %s",
				c.Name, name, times(wall.Median), times(wall.Min), times(wall.Max), times(cpu.Median), times(g.times), times(g.gate)),
			max(wall.Median, cpu.Median) < g.gate,
		})
	}
	return lines
}

func (c Case) row(name string) (Row, bool) {
	for _, r := range c.Rows {
		if r.Name == name {
			return r, true
		}
	}
	return Row{}, false
}
