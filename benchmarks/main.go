package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

var errUsage = errors.New("benchmarks")

const (
	defaultRounds = 7
	minRounds     = 5 // counted; one more is thrown away
	defaultHeap   = 0
	defaultSample = 150 * time.Millisecond
)

// settings is what the flags say.
type settings struct {
	only   []string
	rounds int
	sample time.Duration // about how long one measurement takes
	json   bool
	gate   bool
	heap   int    // MiB that are held while measuring
	nats   string // a server's address; "" for one in the process
	kafka  string // a cluster's addresses; "" for one in the process
	svg    string // a folder for pictures; "" for none
	from   string // a report to read in place of measuring; "" for none
}

// groups are what -only names, in the order in which they run.
var groups = []struct {
	name string
	run  func(ctx context.Context, s settings) ([]Case, error)
}{
	{"in-process", contests(inProcess)},
	{"growth", contests(growth)},
	{"latency", latency},
	{"nats", natsGroup},
	{"jetstream", jetStreamGroup},
	{"kafka", kafkaGroup},
}

// contests is the run of a group that needs nothing but its contests.
func contests(all func() []contest) func(ctx context.Context, s settings) ([]Case, error) {
	return func(ctx context.Context, s settings) ([]Case, error) { return runAll(ctx, s, all()) }
}

func groupNames() []string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return names
}

// parse reads the flags. A mistake is an errUsage.
func parse(args []string, usage io.Writer) (settings, error) {
	var s settings
	var only string
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&only, "only", "", "the groups to run, with commas between them: "+strings.Join(groupNames(), ", ")+" (all)")
	f.IntVar(&s.rounds, "rounds", defaultRounds, fmt.Sprintf("the rounds that count, at least %d; one more is thrown away", minRounds))
	f.DurationVar(&s.sample, "sample", defaultSample, "about how long one measurement takes")
	f.IntVar(&s.heap, "heap", defaultHeap, "MiB that are held meanwhile, as a service holds something: the garbage collector then runs less often")
	f.StringVar(&s.nats, "nats", "", "the URL of a NATS server with JetStream (one in this process)")
	f.StringVar(&s.kafka, "kafka", "", "the addresses of a Kafka cluster, with commas between them (kfake in this process)")
	f.StringVar(&s.svg, "svg", "", "a folder that gets pictures, a file for each group")
	f.StringVar(&s.from, "from", "", "a report that -json printed: nothing is measured")
	f.BoolVar(&s.json, "json", false, "print JSON instead of tables")
	f.BoolVar(&s.gate, "gate", false, "check the goals alone, with a margin for a noisy machine; exit code 1 on a miss")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return s, err
		}
		return s, fmt.Errorf("%w: %w", errUsage, err)
	}
	var mistakes []error
	if f.NArg() > 0 {
		mistakes = append(mistakes, fmt.Errorf("unexpected argument %q", f.Arg(0)))
	}
	if s.rounds < minRounds {
		mistakes = append(mistakes, fmt.Errorf("-rounds %d: at least %d must count", s.rounds, minRounds))
	}
	if s.heap < 0 {
		mistakes = append(mistakes, fmt.Errorf("-heap %d: it must not be negative", s.heap))
	}
	if s.sample <= 0 {
		mistakes = append(mistakes, fmt.Errorf("-sample %v: it must be positive", s.sample))
	}
	if only != "" {
		for name := range strings.SplitSeq(only, ",") {
			name = strings.TrimSpace(name)
			if !known(name) {
				mistakes = append(mistakes, fmt.Errorf("-only %q: there is no such group, there are %s", name, strings.Join(groupNames(), ", ")))
			}
			s.only = append(s.only, name)
		}
	}
	if s.gate && only != "" {
		mistakes = append(mistakes, errors.New("-gate chooses what it runs: leave -only out"))
	}
	if s.gate && (s.svg != "" || s.from != "") {
		mistakes = append(mistakes, errors.New("-gate draws and reads nothing: leave -svg and -from out"))
	}
	if s.from != "" && only != "" {
		mistakes = append(mistakes, errors.New("-from measures nothing: leave -only out"))
	}
	if s.gate && s.json {
		mistakes = append(mistakes, errors.New("-gate prints lines, not JSON: leave -json out"))
	}
	if len(mistakes) > 0 {
		return s, fmt.Errorf("%w: %w", errUsage, errors.Join(mistakes...))
	}
	return s, nil
}

func known(name string) bool {
	for _, g := range groups {
		if g.name == name {
			return true
		}
	}
	return false
}

func (s settings) wants(group string) bool {
	for _, name := range s.only {
		if name == group {
			return true
		}
	}
	return len(s.only) == 0
}

// run is main without the process. Progress goes to progress, results to out.
func run(ctx context.Context, args []string, out, progress io.Writer) error {
	s, err := parse(args, progress)
	if err != nil {
		return err
	}
	ballast := make([]byte, s.heap<<20)
	defer runtime.KeepAlive(ballast)
	if s.gate {
		return gate(ctx, s, out)
	}
	report, err := s.report(ctx, progress)
	if err != nil {
		return err
	}
	if s.svg != "" {
		if err := report.writePictures(s.svg); err != nil {
			return err
		}
	}
	if s.json {
		return report.writeJSON(out)
	}
	return report.writeTable(out)
}

// report measures, or reads what was measured.
func (s settings) report(ctx context.Context, progress io.Writer) (report Report, err error) {
	if s.from != "" {
		data, err := os.ReadFile(s.from)
		if err == nil {
			if err = json.Unmarshal(data, &report); err != nil {
				err = fmt.Errorf("-from %s: %w", s.from, err)
			}
		}
		return report, err
	}
	report = Report{Machine: thisMachine(), Rounds: s.rounds}
	for _, g := range groups {
		if !s.wants(g.name) {
			continue
		}
		fmt.Fprintf(progress, "%s …\n", g.name)
		group := Group{Name: g.name}
		if group.Cases, err = g.run(ctx, s); err != nil {
			return report, fmt.Errorf("%s: %w", g.name, err)
		}
		report.Groups = append(report.Groups, group)
	}
	report.LoadAfter = load()
	return report, nil
}

func runAll(ctx context.Context, s settings, contests []contest) ([]Case, error) {
	var cases []Case
	for _, c := range contests {
		result, err := c.run(ctx, s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		cases = append(cases, result)
	}
	return cases, nil
}
