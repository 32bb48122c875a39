package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args string
		want string // in the error; "" for none
	}{
		{"", ""},
		{"-only in-process", ""},
		{"-only growth,latency -rounds 5 -json", ""},
		{"-gate", ""},
		{"-only nats,jetstream,kafka", ""},
		{"-only redis", `"redis": there is no such group, there are in-process, growth, latency, nats, jetstream, kafka`},
		{"-only growth,", `"": there is no such group`},
		{"-rounds 4", "-rounds 4: at least 5 must count"},
		{"-rounds many", "invalid value"},
		{"-heap -1", "it must not be negative"},
		{"-sample 0s", "it must be positive"},
		{"-gate -only growth", "leave -only out"},
		{"-gate -json", "leave -json out"},
		{"-gate -svg x", "leave -svg and -from out"},
		{"-from x -only kafka", "leave -only out"},
		{"-turbo", "not defined"},
		{"fast", `unexpected argument "fast"`},
	} {
		_, err := parse(strings.Fields(tt.args), io.Discard)
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%q: %v", tt.args, err)
		case tt.want != "" && (!errors.Is(err, errUsage) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%q: %v, want a usage error with %q", tt.args, err, tt.want)
		}
	}
	if _, err := parse([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestOnlyChoosesGroups(t *testing.T) {
	t.Parallel()
	s, err := parse([]string{"-only", "latency, growth"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if s.wants("in-process") || !s.wants("growth") || !s.wants("latency") {
		t.Errorf("%q", s.only)
	}
}

// A run from the flags to the output, with few messages.
func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-only", "in-process", "-rounds", "5", "-sample", "1us", "-json"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Groups) != 1 || r.Groups[0].Name != "in-process" {
		t.Fatalf("%d groups", len(r.Groups))
	}
	if got := len(r.Groups[0].Cases); got != len(inProcess()) {
		t.Errorf("%d cases", got)
	}
	for _, c := range r.Groups[0].Cases {
		for i, row := range c.Rows {
			if row.Time == nil || row.Allocs == nil || (row.Ratio == nil) != (i == 0) || (row.Verdict == "") != (i == 0) {
				t.Errorf("%s: %s is incomplete", c.Name, row.Name)
			}
		}
	}
	if r.Machine.CPU == "" || r.Machine.Go == "" || r.Machine.Modules == nil {
		t.Errorf("the machine: %+v", r.Machine)
	}
}

func TestGoals(t *testing.T) {
	t.Parallel()
	g := goal{work: noop, peers: []string{"watermill"}, times: 15, gate: 7.5}
	of := func(allocs, wall, cpu float64) Case {
		return Case{Name: "x", Rows: []Row{
			{Name: "gostream", Allocs: &allocs},
			{Name: "watermill", Ratio: &Summary{Median: wall}, CPURatio: &Summary{Median: cpu}},
		}}
	}
	for _, tt := range []struct {
		name   string
		c      Case
		missed int
	}{
		{"reached", of(3, 16, 16), 0},
		{"within the margin", of(3.01, 7.6, 7.6), 0},
		{"the time alone is off", of(2, 3, 9), 0},
		{"the CPU time alone is off", of(2, 9, 3), 0},
		{"an allocation too many", of(4, 16, 16), 1},
		{"a tenth of an allocation too many", of(3.1, 16, 16), 1},
		{"too slow", of(3, 7.4, 7.4), 1},
		{"no CPU time", Case{Rows: []Row{{Name: "gostream", Allocs: ptr(1.0)}, {Name: "watermill", Ratio: &Summary{Median: 20}}}}, 0},
		{"nothing measured", Case{}, 2},
	} {
		missed := 0
		for _, l := range g.check(tt.c, 3) {
			if l.missed {
				missed++
			}
		}
		if missed != tt.missed {
			t.Errorf("%s: %d misses, want %d", tt.name, missed, tt.missed)
		}
	}
}

func TestBrokerGoals(t *testing.T) {
	t.Parallel()
	g := brokerGoal{group: "x", least: rowByPoll, module: 1, runtime: 2, ratios: true}
	// The module and the runtime differ by what the goal allows them.
	of := func(allocs, wall, cpu float64) []Case {
		row := func(name string, allocs float64) Row {
			return Row{Name: name, Allocs: &allocs, Ratio: &Summary{Median: wall}, CPURatio: &Summary{Median: cpu}, Added: &Summary{}, AddedShare: ptr(9.0)}
		}
		all := Case{Rows: []Row{row(rowByPoll, 3), row(rowModule, allocs), row(rowRuntime, allocs+1)}}
		return []Case{all, all}
	}
	for _, tt := range []struct {
		name   string
		cases  []Case
		missed int
	}{
		{"reached", of(4, 1, 1), 0},
		{"background", of(4.2, 1, 1), 0},
		{"an allocation too many", of(5, 1, 1), 2},
		{"half an allocation too many", of(4.5, 1, 1), 2},
		{"the time alone is off", of(4, 5, 1.1), 0},
		{"the CPU time alone is off", of(4, 1.1, 5), 0},
		{"too slow", of(4, 2.1, 2.1), 2},
		{"nothing measured", nil, 1},
		{"no rows", []Case{{}, {}}, 4},
	} {
		for _, gated := range []bool{true, false} {
			g.ratios = gated
			missed := 0
			for _, l := range g.check(tt.cases) {
				if l.missed {
					missed++
				}
			}
			want := tt.missed
			if tt.name == "too slow" && !gated {
				want = 0 // told alone
			}
			if missed != want {
				t.Errorf("%s, ratios %v: %d misses, want %d", tt.name, gated, missed, want)
			}
		}
	}
}
