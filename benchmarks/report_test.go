package main

import (
	"bytes"
	"encoding/xml"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
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
			{Name: "kafka", Cases: brokerCases()},
		},
	}
}

// brokerCases are a case on a server and one over a stub, related to each other.
func brokerCases() []Case {
	time := func(ns float64) *Summary { return &Summary{Median: ns, Min: ns - 10, Max: ns + 10} }
	above, below := summarize([]float64{1.02, 1.04, 1.3}), summarize([]float64{0.7, 0.8, 0.9})
	more, less := summarize([]float64{4, 10, 12}), summarize([]float64{-30, -20, 5})
	cases := []Case{
		{Name: "consume 256 bytes", Server: "kfake in this process", Rows: []Row{
			{Name: rowRaw, Time: time(1000), CPU: time(1000), Allocs: ptr(4.0), Bytes: ptr(500.0)},
			{Name: rowModule, Time: time(800), CPU: time(800), CPURatio: &below, Allocs: ptr(3.0), Bytes: ptr(400.0), Ratio: &below, Verdict: verdict(below)},
			{Name: rowRuntime, Time: time(1040), CPU: time(1040), CPURatio: &above, Allocs: ptr(4.0), Bytes: ptr(600.0), Ratio: &above, Verdict: verdict(above)},
			{Name: "watermill", Time: time(3000), CPU: time(3600), CPURatio: &Summary{Median: 3.6, Min: 2.5, Max: 31}, Allocs: ptr(40.0), Bytes: ptr(3000.0), Ratio: &Summary{Median: 3, Min: 2, Max: 30}, Verdict: slower},
		}},
		{Name: "consume 256 bytes" + overStub, Rows: []Row{
			{Name: rowRaw, Time: time(400), CPU: time(400), Allocs: ptr(2.0), Bytes: ptr(50.0)},
			{Name: rowModule, Time: time(380), CPU: time(380), CPURatio: &below, Allocs: ptr(0.0), Bytes: ptr(5.0), Ratio: &below, Verdict: verdict(below), Added: &less, AddedCPU: &less},
			{Name: rowRuntime, Time: time(410), Allocs: ptr(1.0), Bytes: ptr(130.0), Ratio: &above, Verdict: verdict(above), Added: &more},
		}},
	}
	relate(cases)
	return cases
}

func TestTable(t *testing.T) {
	t.Parallel()
	golden(t, "table.golden", Report.writeTable)
}

func TestJSON(t *testing.T) {
	t.Parallel()
	golden(t, "report.json.golden", Report.writeJSON)
}

// The pictures hang on the figures alone.
func TestPicture(t *testing.T) {
	t.Parallel()
	golden(t, "benchmarks-kafka.svg.golden", func(r Report, w io.Writer) error {
		dir := t.TempDir()
		if err := r.writePictures(dir); err != nil {
			return err
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name())
			data, err := os.ReadFile(filepath.Join(dir, f.Name()))
			if err != nil {
				return err
			}
			if err := xml.Unmarshal(data, new(struct{})); err != nil {
				t.Errorf("%s: %v", f.Name(), err)
			}
		}
		if want := []string{"benchmarks-in-process.svg", "benchmarks-kafka.svg"}; !slices.Equal(names, want) {
			t.Errorf("the pictures are %q, want %q", names, want)
		}
		data, err := os.ReadFile(filepath.Join(dir, "benchmarks-kafka.svg"))
		if err == nil {
			_, err = w.Write(data)
		}
		return err
	})
}

// The pictures in the docs are those of the report beside them.
func TestPicturesOfTheDocs(t *testing.T) {
	t.Parallel()
	const docs = "../docs/images"
	var out bytes.Buffer
	dir := t.TempDir()
	if err := run(t.Context(), []string{"-from", filepath.Join(docs, "benchmarks.json"), "-svg", dir}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	drawn, err := os.ReadDir(dir)
	if err != nil || len(drawn) == 0 {
		t.Fatalf("%d pictures were drawn: %v", len(drawn), err)
	}
	for _, f := range drawn {
		got, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(docs, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is another: go run ./benchmarks -from docs/images/benchmarks.json -svg docs/images", f.Name())
		}
	}
}

func TestRelate(t *testing.T) {
	t.Parallel()
	cases := brokerCases()
	if got, want := cases[0].Notes, []string{"server-bound: over a stub the raw loop takes 400 ns, 40 % of its time here"}; !slices.Equal(got, want) {
		t.Errorf("notes %q, want %q", got, want)
	}
	if r, _ := cases[1].row(rowRuntime); r.AddedShare == nil || *r.AddedShare != 0.01 {
		t.Errorf("10 ns of 1000 ns are %v", r.AddedShare)
	}
	cases = brokerCases()
	cases[0].Notes, cases[1].Rows[0].Time = nil, &Summary{Median: 600}
	if relate(cases); len(cases[0].Notes) != 1 || cases[0].Notes[0] != "over a stub the raw loop takes 600 ns, 60 % of its time here" {
		t.Errorf("notes %q", cases[0].Notes)
	}
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
