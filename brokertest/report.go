package brokertest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gostream/gostream/broker"
)

// Status is how a check ended.
type Status string

// The ways in which a check ends.
const (
	Passed        Status = "passed"
	Failed        Status = "failed"
	NotApplicable Status = "not applicable"
	Skipped       Status = "skipped" // by Harness.Skip
)

// Result is one check that was run.
type Result struct {
	Check
	Status Status
	// Err says why the check did not pass; nil where it did. That of a failed one is
	// a [*Failure].
	Err error
	// Duration is how long it took.
	Duration time.Duration
}

// Row is a line of the table of capabilities or of properties.
type Row struct {
	// Name is the capability or the property.
	Name string
	// Declared is what the broker declares; "" for a capability, which is not
	// declared but there.
	Declared string
	// Seen is what the kit saw; "" where it saw nothing of it.
	Seen string
}

// Report is what a run of the kit found.
type Report struct {
	mu           sync.Mutex
	capabilities []*Row
	properties   []*Row
	results      []Result
}

// The names of the capabilities, for [env.saw].
const (
	capHeaders      = "headers"
	capCheck        = "check"
	capSpec         = "source description"
	capMatch        = "source matching"
	capNames        = "names"
	capPublisher    = "matching publisher"
	capProperties   = "properties"
	capDelay        = "delayed nack"
	capCount        = "delivery count"
	capKey          = "partition key"
	capLease        = "lease"
	capStale        = "staleness"
	capBatchReceive = "batch receive"
	capLag          = "lag"
	capBatchPublish = "batch publish"
	capTransactions = "transactions"
	capReceivedTx   = "transactions on a subscription"
	capRequest      = "request-reply"
	capServer       = "server description"
	capHealth       = "health"
	capEvents       = "events"
)

func newReport() *Report {
	r := &Report{}
	for _, name := range []string{
		capHeaders, capCheck, capSpec, capMatch, capNames, capPublisher, capProperties, capDelay, capCount, capKey, capLease, capStale,
		capBatchReceive, capLag, capBatchPublish, capTransactions, capReceivedTx, capRequest, capServer, capHealth, capEvents,
	} {
		r.capabilities = append(r.capabilities, &Row{Name: name})
	}
	for _, p := range propertyValues(broker.Properties{}) {
		r.properties = append(r.properties, &Row{Name: p.Name, Declared: "unknown"})
	}
	return r
}

// propertyValues returns the properties as text.
func propertyValues(p broker.Properties) []Row {
	limit := "no limit known"
	if p.MaxPayload > 0 {
		limit = fmt.Sprintf("%d bytes", p.MaxPayload)
	}
	return []Row{
		{Name: "Persistent", Declared: yesNo(p.Persistent)},
		{Name: "Redelivers", Declared: yesNo(p.Redelivers)},
		{Name: "BuffersPublishes", Declared: yesNo(p.BuffersPublishes)},
		{Name: "CountsDeliveries", Declared: yesNo(p.CountsDeliveries)},
		{Name: "Ordered", Declared: yesNo(p.Ordered)},
		{Name: "OrderedByKey", Declared: yesNo(p.OrderedByKey)},
		{Name: "Keys", Declared: p.Keys.String()},
		{Name: "CompetingConsumers", Declared: yesNo(p.CompetingConsumers)},
		{Name: "Backlog", Declared: yesNo(p.Backlog)},
		{Name: "SerialTransactions", Declared: yesNo(p.SerialTransactions)},
		{Name: "MaxPayload", Declared: limit},
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// declare enters what the source of the harness declares.
func (r *Report) declare(p broker.Properties) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, row := range propertyValues(p) {
		r.properties[i].Declared = row.Declared
	}
}

// saw enters what was seen of a capability or a property.
func (r *Report) saw(what, value string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rows := range [][]*Row{r.capabilities, r.properties} {
		for _, row := range rows {
			if row.Name == what {
				row.Seen = value
				return
			}
		}
	}
	panic("brokertest: no capability and no property is called " + what)
}

// sawFirst is saw unless something was seen already.
func (r *Report) sawFirst(what, value string) {
	r.mu.Lock()
	for _, row := range r.capabilities {
		if row.Name == what && row.Seen != "" {
			r.mu.Unlock()
			return
		}
	}
	r.mu.Unlock()
	r.saw(what, value)
}

func (r *Report) add(res Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
}

// Capabilities lists the capabilities and whether they are there.
func (r *Report) Capabilities() []Row { return r.rows(r.capabilities) }

// Properties lists the properties of the source, as declared and as seen.
func (r *Report) Properties() []Row { return r.rows(r.properties) }

func (r *Report) rows(rows []*Row) []Row {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]Row, len(rows))
	for i, row := range rows {
		list[i] = *row
	}
	return list
}

// Results lists the checks that were run, in their order.
func (r *Report) Results() []Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Result(nil), r.results...)
}

// String returns the report as text.
func (r *Report) String() string {
	return r.render(func(b *strings.Builder, title string, head []string, rows [][]string) {
		width := make([]int, len(head))
		for _, row := range append([][]string{head}, rows...) {
			for i, cell := range row {
				width[i] = max(width[i], len(cell))
			}
		}
		fmt.Fprintf(b, "%s\n", title)
		for _, row := range append([][]string{head}, rows...) {
			var line strings.Builder
			for i, cell := range row {
				fmt.Fprintf(&line, "  %-*s", width[i], cell)
			}
			b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
		}
		b.WriteByte('\n')
	})
}

// Markdown returns the report as Markdown tables, for the documentation of a broker.
func (r *Report) Markdown() string {
	return r.render(func(b *strings.Builder, title string, head []string, rows [][]string) {
		fmt.Fprintf(b, "### %s\n\n", title)
		fmt.Fprintf(b, "| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, row := range rows {
			cells := make([]string, len(row))
			for i, cell := range row {
				cells[i] = strings.ReplaceAll(cell, "|", `\|`)
			}
			fmt.Fprintf(b, "| %s |\n", strings.Join(cells, " | "))
		}
		b.WriteByte('\n')
	})
}

// render hands the tables of the report to table.
func (r *Report) render(table func(b *strings.Builder, title string, head []string, rows [][]string)) string {
	var b strings.Builder
	var rows [][]string
	for _, c := range r.Capabilities() {
		rows = append(rows, []string{c.Name, orUnknown(c.Seen)})
	}
	table(&b, "Capabilities", []string{"capability", "there"}, rows)

	rows = nil
	for _, p := range r.Properties() {
		rows = append(rows, []string{p.Name, p.Declared, orUnknown(p.Seen)})
	}
	table(&b, "Properties", []string{"property", "declared", "seen"}, rows)

	rows = nil
	count := make(map[Status]int)
	for _, res := range r.Results() {
		count[res.Status]++
		rows = append(rows, []string{res.Name, string(res.Status), reason(res)})
	}
	title := fmt.Sprintf("Checks: %d passed, %d failed, %d not applicable, %d skipped",
		count[Passed], count[Failed], count[NotApplicable], count[Skipped])
	table(&b, title, []string{"check", "result", "why"}, rows)
	return b.String()
}

func orUnknown(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// reason is one line that says why a check did not pass.
func reason(r Result) string {
	var omit *omitted
	if why, ok := isInapplicable(r.Err); ok {
		return why
	}
	if errors.As(r.Err, &omit) {
		return omit.reason
	}
	var f *Failure
	if errors.As(r.Err, &f) {
		line, _, _ := strings.Cut(f.Seen.Error(), "\n")
		return line
	}
	return ""
}

// probe looks for the capabilities of which no check said anything. What it cannot
// reach stays unknown.
func (s *suite) probe() {
	there := func(what string, is bool) { s.report.sawFirst(what, yesNo(is)) }
	_ = s.watch(s.h.Watchdog, func(e *env) error {
		b, err := e.connect()
		if err != nil {
			return err
		}
		there(capCheck, is[broker.Checker](b))
		there(capNames, is[broker.NameChecker](b))
		there(capProperties, is[broker.PropertiesDescriber](b))
		there(capServer, is[broker.ServerDescriber](b))
		there(capHealth, is[broker.HealthChecker](b))
		there(capEvents, is[broker.Notifier](b))
		t, err := e.target()
		if err != nil {
			return err
		}
		s.report.declare(e.specOf(t, b).Properties)
		there(capSpec, is[broker.SourceDescriber](t.Source))
		there(capMatch, is[broker.Matcher](t.Source) || is[broker.NameMatcher](b))
		there(capPublisher, is[broker.PublisherMatcher](t.Source))
		l, err := e.link(t, b)
		if err != nil {
			return err
		}
		there(capBatchPublish, is[broker.BatchPublisher](l.pub))
		there(capTransactions, is[broker.Transactor](l.pub))
		there(capRequest, is[broker.Requester](l.pub))
		sub, err := l.subscribe()
		if err != nil {
			return err
		}
		there(capBatchReceive, is[broker.BatchReceiver](sub.sub))
		there(capLag, is[broker.Lagger](sub.sub))
		there(capReceivedTx, is[broker.Transactor](sub.sub))
		if err := l.publish("probe"); err != nil {
			return err
		}
		d, err := sub.receive()
		if err != nil {
			return err
		}
		there(capDelay, is[broker.DelayedNacker](d.IncomingMessage))
		there(capCount, is[broker.DeliveryCounter](d.IncomingMessage))
		there(capKey, is[broker.Partitioned](d.IncomingMessage))
		there(capLease, is[broker.Leased](d.IncomingMessage))
		there(capStale, is[broker.Staler](d.IncomingMessage))
		return d.ack()
	})
}

// is reports whether v implements T. Only the table asks in this way: whether a
// capability works is found out by the checks, through the helpers of package broker.
func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}
