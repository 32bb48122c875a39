package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// someReport has every kind of row.
func someReport() Report {
	third := summarize([]float64{15, 16, 17.25})
	near := summarize([]float64{0.9, 1, 1.1})
	return Report{
		Machine: Machine{
			CPU: "Some CPU", Cores: 4, Procs: 2, System: "linux/amd64", Go: "go1.26.8", Load: "0.10 0.20 0.30",
			Modules: map[string]string{gostreamModule: "v0.0.0", watermillModule: "v1.5.2"},
		},
		Rounds:    7,
		LoadAfter: "1.00 0.50 0.30",
		Groups: []Group{
			{Name: "in-process", Cases: []Case{{Name: "no-op, 64 in flight", Rows: []Row{
				{Name: "gostream", Time: &Summary{Median: 500, Min: 480, Max: 520}, CPU: &Summary{Median: 600, Min: 590, Max: 610}, Allocs: ptr(2.0), Bytes: ptr(416.4)},
				{
					Name: "watermill", Time: &Summary{Median: 8000, Min: 7680, Max: 8970}, CPU: &Summary{Median: 12000, Min: 11000, Max: 13000}, CPURatio: &Summary{Median: 20, Min: 18, Max: 22},
					Allocs: ptr(39.01), Bytes: ptr(2500.0), Ratio: &third, Verdict: verdict(third),
				},
				{Name: "another", Time: &Summary{Median: 500e3, Min: 480e3, Max: 2e9}, Allocs: ptr(0.0), Bytes: ptr(0.0), Ratio: &near, Verdict: verdict(near)},
			}}}},
			{Name: "growth", Cases: []Case{{Name: "subscriptions", Rows: []Row{
				{Name: "1", Time: &Summary{Median: 500, Min: 480, Max: 520}, Allocs: ptr(2.0), Bytes: ptr(400.0)},
				{Name: "1000", Time: &Summary{Median: 500, Min: 480, Max: 520}, Allocs: ptr(2.0), Bytes: ptr(400.0), Held: ptr(5000.0), Ratio: &near, Verdict: verdict(near)},
			}}}},
			{Name: "latency", Cases: []Case{{Name: "publish to handled", Rows: []Row{
				{Name: "gostream", Latency: &Latency{Rate: 1e6, P50: Summary{Median: 900, Min: 800, Max: 1000}, P99: Summary{Median: 9e4, Min: 8e4, Max: 1e5}, P999: Summary{Median: 1.5e6, Min: 1e6, Max: 2e6}}},
			}}}},
		},
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	golden(t, "table.golden", Report.writeTable)
}

func TestJSON(t *testing.T) {
	t.Parallel()
	golden(t, "report.json.golden", Report.writeJSON)
}

func golden(t *testing.T, name string, write func(Report, io.Writer) error) {
	t.Helper()
	var got bytes.Buffer
	if err := write(someReport(), &got); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is another; go test ./benchmarks -update writes it. Got:\n%s", file, got.String())
	}
}

func TestDigits(t *testing.T) {
	t.Parallel()
	for ns, want := range map[float64]string{
		0: "0.00 ns", 9.999: "10.0 ns", 999.4: "999 ns", 999.6: "1.00 µs", 12345: "12.3 µs", 2e6: "2.00 ms", 3.5e9: "3.50 s",
	} {
		if got := nanos(ns); got != want {
			t.Errorf("nanos(%v) is %q, want %q", ns, got, want)
		}
	}
}
