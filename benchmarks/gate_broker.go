package main

import (
	"context"
	"fmt"
	"slices"
)

// A brokerGoal is what the module and the runtime may cost beside the client's own loop.
// Allocations are counted over a stub, where no server allocates in the same process.
type brokerGoal struct {
	group   string
	open    func(settings) (arena, error)
	least   string  // the raw loop that allocates least
	module  float64 // allocations that the module may add to it
	runtime float64 // and the runtime
	ratios  bool    // they count; else they are only told
}

const (
	// ratioGoal is the goal of the docs, of the time or of the CPU time.
	ratioGoal = 1.05
	// ratioGate is where the gate fails: the machine may be noisy.
	ratioGate = 2
	// brokerSlack is for the allocations that are not of a message: timers, requests for
	// more, commits.
	brokerSlack = 0.25
	// shareGoal is what may be added over a stub, as a part of the raw loop's time on the
	// server.
	shareGoal = 0.02
)

var brokerGoals = []brokerGoal{
	{group: "nats", open: natsArena, least: rowRaw, module: 1, runtime: 2, ratios: true},
	{group: "jetstream", open: jetStreamArena, least: rowCallback, module: 0, runtime: 1},
	{group: "kafka", open: kafkaArena, least: rowByPoll, module: 0, runtime: 1, ratios: true},
}

// gateRows are the entrants that the gate measures.
var gateRows = []string{rowRaw, rowModule, rowRuntime, rowCallback, rowByPoll}

// run measures what the goal is about: consuming bytes, on the server and over a stub.
func (g brokerGoal) run(ctx context.Context, s settings) ([]line, error) {
	cases, err := onServer(ctx, s, g.open, func(c *contest) bool {
		c.entrants = slices.DeleteFunc(slices.Clone(c.entrants), func(e entrant) bool { return !slices.Contains(gateRows, e.name) })
		return c.name == consumed(noop) || c.name == consumed(noop)+overStub
	})
	if err != nil {
		return nil, err
	}
	return g.check(cases), nil
}

// check compares. What is not there is a miss.
func (g brokerGoal) check(cases []Case) []line {
	if len(cases) != 2 {
		return []line{{g.group + ": nothing was measured", true}}
	}
	server, stub := cases[0], cases[1]
	var lines []line
	for _, of := range []struct {
		row  string
		more float64
	}{{rowModule, g.module}, {rowRuntime, g.runtime}} {
		lines = append(lines, g.checkAllocs(stub, of.row, of.more), g.checkRatio(server, of.row))
		if r, ok := stub.row(of.row); ok && r.AddedShare != nil {
			lines = append(lines, line{text: fmt.Sprintf("%s: %s (told, not gated; the goal is %.0f %%)", g.group, r.added(), 100*shareGoal)})
		}
	}
	return lines
}

func (g brokerGoal) checkAllocs(stub Case, name string, more float64) line {
	row, ok := stub.row(name)
	least, ok2 := stub.row(g.least)
	if !ok || !ok2 {
		return line{g.group + ": the allocations of " + name + " were not measured", true}
	}
	return line{
		fmt.Sprintf("%s: %s %.2f allocations a message, %s %.2f; at most %.0f more", g.group, name, *row.Allocs, g.least, *least.Allocs, more),
		*row.Allocs > *least.Allocs+more+brokerSlack,
	}
}

func (g brokerGoal) checkRatio(server Case, name string) line {
	row, ok := server.row(name)
	if !ok || row.Ratio == nil {
		return line{g.group + ": the time of " + name + " was not measured", true}
	}
	best, text := row.Ratio.Median, ""
	if row.CPURatio != nil {
		best, text = min(best, row.CPURatio.Median), ", "+times(row.CPURatio.Median)+" of the CPU time"
	}
	told := fmt.Sprintf("the goal is %s, the gate %s", times(ratioGoal), times(ratioGate))
	if !g.ratios {
		told = "told, not gated"
	}
	return line{
		fmt.Sprintf("%s: %s needs %s of the raw loop's time (%s – %s)%s; %s", g.group, name, times(row.Ratio.Median), times(row.Ratio.Min), times(row.Ratio.Max), text, told),
		g.ratios && best > ratioGate,
	}
}
