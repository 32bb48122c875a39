package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
)

// Report is everything that one run found out.
type Report struct {
	Machine   Machine `json:"machine"`
	Rounds    int     `json:"rounds"`
	LoadAfter string  `json:"load_after,omitempty"`
	Groups    []Group `json:"groups"`
}

// Group is what -only names.
type Group struct {
	Name  string `json:"name"`
	Cases []Case `json:"cases"`
}

// Case is entrants that took turns. The first row is the base of the ratios.
type Case struct {
	Name   string   `json:"name"`
	Server string   `json:"server,omitempty"` // "" for none
	Rows   []Row    `json:"rows"`
	Notes  []string `json:"notes,omitempty"`
}

// Row is one entrant. What was not measured is nil.
type Row struct {
	Name     string   `json:"name"`
	Time     *Summary `json:"ns_per_message,omitempty"`
	CPU      *Summary `json:"cpu_ns_per_message,omitempty"`
	CPURatio *Summary `json:"cpu_ratio,omitempty"`
	Allocs   *float64 `json:"allocations_per_message,omitempty"`
	Bytes    *float64 `json:"bytes_per_message,omitempty"`
	Ratio    *Summary `json:"ratio,omitempty"`
	Verdict  string   `json:"verdict,omitempty"`
	Held     *float64 `json:"held_bytes_per_subscription,omitempty"`
	Latency  *Latency `json:"latency,omitempty"`

	// Over a stub: what is added to the first row, and that as a part of the time of the
	// first row on the server.
	Added         *Summary `json:"added_ns_per_message,omitempty"`
	AddedShare    *float64 `json:"added_of_server,omitempty"`
	AddedCPU      *Summary `json:"added_cpu_ns_per_message,omitempty"`
	AddedCPUShare *float64 `json:"added_cpu_of_server,omitempty"`
}

// Latency is from publish to handled, in nanoseconds.
type Latency struct {
	Rate float64 `json:"messages_per_second"`
	P50  Summary `json:"p50"`
	P99  Summary `json:"p99"`
	P999 Summary `json:"p99_9"`
}

func (r Report) writeJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func (r Report) writeTable(w io.Writer) error {
	var b strings.Builder
	b.WriteString(r.Machine.String())
	if r.LoadAfter != "" {
		fmt.Fprintf(&b, "load at the end %s\n", r.LoadAfter)
	}
	fmt.Fprintf(&b, "%d rounds, medians, the spread from the least to the greatest; ratios pair by pair to the first row\n", r.Rounds)
	for _, g := range r.Groups {
		for _, c := range g.Cases {
			fmt.Fprintf(&b, "\n%s: %s\n", g.Name, c.Name)
			if c.Server != "" {
				fmt.Fprintf(&b, "  on %s\n", c.Server)
			}
			c.table(&b)
			for _, r := range c.Rows {
				if r.Added != nil {
					fmt.Fprintf(&b, "  %s\n", r.added())
				}
			}
			for _, n := range c.Notes {
				fmt.Fprintf(&b, "  %s\n", n)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c Case) table(b *strings.Builder) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	switch {
	case len(c.Rows) > 0 && c.Rows[0].Latency != nil:
		fmt.Fprintf(t, "  \tmessages/s\tp50\tp99\tp99.9\t\n")
		for _, r := range c.Rows {
			l := r.Latency
			fmt.Fprintf(t, "  %s\t%.0f\t%s\t%s\t%s\t\n", r.Name, l.Rate, nanos(l.P50.Median), nanos(l.P99.Median), nanos(l.P999.Median))
		}
	default:
		held := ""
		for _, r := range c.Rows {
			if r.Held != nil {
				held = "idle subscription\t"
			}
		}
		fmt.Fprintf(t, "  \ttime\tspread\tCPU time\tallocations\tbytes\t%sratio\tspread\tof CPU time\t\t\n", held)
		for _, r := range c.Rows {
			fmt.Fprintf(t, "  %s\t%s\t%s – %s\t", r.Name, nanos(r.Time.Median), nanos(r.Time.Min), nanos(r.Time.Max))
			fmt.Fprintf(t, "%s\t%.2f\t%.0f\t", optional(r.CPU, nanos), *r.Allocs, *r.Bytes)
			switch {
			case r.Held != nil:
				fmt.Fprintf(t, "%.0f B\t", *r.Held)
			case held != "":
				fmt.Fprint(t, "–\t")
			}
			if r.Ratio == nil {
				fmt.Fprint(t, "1×\t\t\t\t\n")
				continue
			}
			fmt.Fprintf(t, "%s\t%s – %s\t", times(r.Ratio.Median), times(r.Ratio.Min), times(r.Ratio.Max))
			fmt.Fprintf(t, "%s\t%s\t\n", optional(r.CPURatio, times), r.Verdict)
		}
	}
	_ = t.Flush() // into memory
	trim(b)
}

// added says what a row over a stub adds.
func (r Row) added() string {
	of := func(s *Summary, share *float64) string {
		text := fmt.Sprintf("%s (%s – %s)", nanos(s.Median), nanos(s.Min), nanos(s.Max))
		if share != nil {
			text += fmt.Sprintf(", %.1f %% of the raw loop's time on the server", 100**share)
		}
		return text
	}
	text := r.Name + " adds " + of(r.Added, r.AddedShare)
	if r.AddedCPU != nil {
		text += "; CPU time " + of(r.AddedCPU, r.AddedCPUShare)
	}
	return text
}

// optional is the median, "–" where nothing was measured.
func optional(s *Summary, format func(float64) string) string {
	if s == nil {
		return "–"
	}
	return format(s.Median)
}

// trim removes spaces at the ends of lines, which tabwriter leaves.
func trim(b *strings.Builder) {
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	b.Reset()
	b.WriteString(strings.Join(lines, "\n"))
}

// nanos is a duration with three digits.
func nanos(ns float64) string {
	switch {
	case ns < 0:
		return "-" + nanos(-ns)
	case ns < 999.5:
		return digits(ns) + " ns"
	case ns < 999.5e3:
		return digits(ns/1e3) + " µs"
	case ns < 999.5e6:
		return digits(ns/1e6) + " ms"
	default:
		return digits(ns/1e9) + " s"
	}
}

func times(r float64) string { return digits(r) + "×" }

// digits is v with three digits, or all that stand before the point.
func digits(v float64) string {
	switch a := math.Abs(v); {
	case a < 9.995:
		return fmt.Sprintf("%.2f", v)
	case a < 99.95:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}
