package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// series is one line of a scrape.
type series struct {
	metric string
	labels map[string]string
	value  float64
}

var (
	lineRE  = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})? (\S+)$`)
	labelRE = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

// scrape reads what Prometheus would read.
func scrape(t *testing.T, tel *telemetry) []series {
	t.Helper()
	rec := httptest.NewRecorder()
	tel.metrics.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
	var all []series
	for line := range strings.Lines(rec.Body.String()) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := lineRE.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("a line of the scrape: %s", line)
		}
		s := series{metric: m[1], labels: map[string]string{}}
		for _, l := range labelRE.FindAllStringSubmatch(m[2], -1) {
			s.labels[l[1]] = l[2]
		}
		var err error
		if s.value, err = strconv.ParseFloat(m[3], 64); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// sum adds up the series of a metric that have those labels, given as key=value.
func sum(all []series, metric string, labels ...string) (total float64) {
next:
	for _, s := range all {
		if s.metric != metric {
			continue
		}
		for _, l := range labels {
			key, value, _ := strings.Cut(l, "=")
			if s.labels[key] != value {
				continue next
			}
		}
		total += s.value
	}
	return total
}

// handled counts by itself what happens.
type handled struct {
	mu       sync.Mutex
	outcomes map[string]float64 // by "subscription outcome"
}

func (h *handled) settled(e gostream.SettledEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.outcomes[e.Delivery.Subscription().Name()+" "+e.Outcome.String()]++
}

// exercise has the example's service handle two rounds of orders, and returns a scrape of
// it while it runs.
func exercise(t *testing.T) ([]series, *handled) {
	t.Helper()
	tel, h := newTelemetry(), &handled{outcomes: make(map[string]float64)}
	s := newService(memory.New(), tel.instrument, gostream.WithLogger(slog.New(slog.DiscardHandler)))
	s.app.Observe(gostream.Observer{Settled: h.settled})
	svc, err := s.app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 * len(items) {
		if err := s.orders.Publish(t.Context(), message(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.orders.Publish(t.Context(), broker.OutgoingMessage{Name: "no name"}); err == nil {
		t.Fatal("a name with a space was accepted")
	}
	time.Sleep(time.Minute) // of the bubble
	all := scrape(t, tel)
	if err := svc.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	return all, h
}

// The metrics say what was handled.
func TestMetricsAreWhatWasHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, h := exercise(t)
		want := map[string]float64{
			"orders acked": 34, "orders retried": 10, "orders dead-lettered": 6,
			"prices acked": 34, "prices error-replied": 6, "confirmations acked": 34, "orders.dead acked": 6,
		}
		if !maps.Equal(h.outcomes, want) {
			t.Errorf("handled were %v, want %v", h.outcomes, want)
		}
		total := 0.0
		for key, n := range want {
			subscription, outcome, _ := strings.Cut(key, " ")
			if got := sum(all, "gostream_settled_messages_total", "gostream_subscription="+subscription, "gostream_outcome="+outcome); got != n {
				t.Errorf("%s: the metric says %v, want %v", key, got, n)
			}
			total += n
		}
		for _, one := range []struct {
			metric string
			labels []string
			want   float64
		}{
			{"gostream_settled_messages_total", nil, total},
			{"messaging_client_consumed_messages_total", []string{"gostream_subscription=orders"}, 40},
			{"messaging_client_sent_messages_total", []string{"messaging_destination_name=orders"}, 40},
			{"messaging_client_sent_messages_total", []string{"messaging_destination_name=confirmations"}, 34},
			{"messaging_client_sent_messages_total", []string{"messaging_destination_name=orders.dead"}, 6},
			{"messaging_client_sent_messages_total", []string{"messaging_operation_name=request"}, 40},
			{"messaging_client_sent_messages_total", []string{"error_type=invalid"}, 1},
			{"messaging_process_duration_seconds_count", []string{"gostream_subscription=orders"}, 50},
			{"messaging_process_duration_seconds_count", []string{"gostream_subscription=orders", "error_type=panic"}, 6},
			{"messaging_process_duration_seconds_count", []string{"gostream_subscription=orders", "error_type=remote"}, 6},
			{"gostream_dead_lettered_messages_total", []string{"gostream_reason=attempts exhausted"}, 4},
			{"gostream_dead_lettered_messages_total", []string{"gostream_reason=undecodable"}, 2},
			{"gostream_dead_lettered_messages_total", nil, 6},
			{"gostream_handler_panics_total", nil, 6},
			{"gostream_undecodable_messages_total", nil, 2},
			{"gostream_batch_size_sum", []string{"gostream_subscription=confirmations"}, 34},
			{"gostream_message_attempts_sum", []string{"gostream_subscription=orders"}, 32 + 2*2 + 4*3 + 2},
			{"gostream_queue_duration_seconds_count", []string{"gostream_subscription=orders"}, 40},
			{"gostream_service_ready", nil, 1},
			{"gostream_subscription_state", []string{"gostream_state=running"}, 4},
			{"gostream_subscription_state", nil, 4},
			{"gostream_subscription_in_flight", nil, 0},
		} {
			if got := sum(all, one.metric, one.labels...); got != one.want {
				t.Errorf("%s%v is %v, want %v", one.metric, one.labels, got, one.want)
			}
		}
	})
}

// query is a PromQL expression of the dashboard or of an alert, with the labels that the
// texts around it name.
type query struct {
	where, expr string
	labels      []string
}

// dashboardQueries reads those of the dashboard.
func dashboardQueries(t *testing.T) []query {
	t.Helper()
	var d struct {
		Templating struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	data, err := os.ReadFile("../../deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	legendRE := regexp.MustCompile(`\{\{ *(\w+) *\}\}`)
	var all []query
	for _, p := range d.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			q := query{where: "panel " + p.Title, expr: target.Expr}
			for _, m := range legendRE.FindAllStringSubmatch(target.LegendFormat, -1) {
				q.labels = append(q.labels, m[1])
			}
			all = append(all, q)
		}
	}
	valuesRE := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := valuesRE.FindStringSubmatch(v.Definition)
		if m == nil {
			t.Fatalf("variable %s: %s", v.Name, v.Definition)
		}
		all = append(all, query{"variable " + v.Name, m[1], []string{m[2]}})
	}
	return all
}

// alertQueries reads those of the alerts: as much YAML as is in the file.
func alertQueries(t *testing.T) []query {
	t.Helper()
	data, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	namedRE := regexp.MustCompile(`\$labels\.(\w+)`)
	var all []query
	block := false // in the lines of an expr: |
	for line := range strings.Lines(string(data)) {
		text := strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(text, "- alert: "); ok {
			all = append(all, query{where: "alert " + name})
		}
		if len(all) == 0 {
			continue
		}
		q := &all[len(all)-1]
		switch expr, ok := strings.CutPrefix(text, "expr: "); {
		case ok && expr == "|":
			block = true
		case ok:
			q.expr = expr
		case block && strings.HasPrefix(line, strings.Repeat(" ", 10)):
			q.expr += text + " "
		default:
			block = false
		}
		for _, m := range namedRE.FindAllStringSubmatch(text, -1) {
			q.labels = append(q.labels, m[1])
		}
	}
	return all
}

var (
	selectorRE = regexp.MustCompile(`\b((?:gostream|messaging)_\w+)(?:\{([^}]*)\})?`)
	matcherRE  = regexp.MustCompile(`(\w+)(=~|!=|=)"([^"]*)"`)
	byRE       = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// outcomes are all that there are: of some the example has none.
func outcomes() (all []string) {
	for o := gostream.OutcomeAcked; o <= gostream.OutcomeUnsettled; o++ {
		all = append(all, o.String())
	}
	return all
}

// scraped are the labels that Prometheus adds to what it scrapes.
var scraped = []string{"job", "instance"}

// problems are what a query names and a scrape does not have.
func (q query) problems(all []series, used map[string]bool) (wrong []string) {
	named := slices.Clone(q.labels)
	for _, m := range byRE.FindAllStringSubmatch(q.expr, -1) {
		named = append(named, strings.Split(strings.ReplaceAll(m[1], " ", ""), ",")...)
	}
	selectors := selectorRE.FindAllStringSubmatch(byRE.ReplaceAllString(q.expr, ""), -1)
	if len(selectors) == 0 {
		return []string{"names no metric: " + q.expr}
	}
	for _, sel := range selectors {
		metric := sel[1]
		used[metric] = true
		labels := map[string]map[string]bool{} // the values of each
		for _, s := range all {
			if s.metric != metric {
				continue
			}
			for k, v := range s.labels {
				if labels[k] == nil {
					labels[k] = map[string]bool{}
				}
				labels[k][v] = true
			}
			labels[""] = nil // there is one
		}
		if _, ok := labels[""]; !ok {
			wrong = append(wrong, metric+" did not come out")
			continue
		}
		for _, l := range named {
			if _, ok := labels[l]; !ok && !slices.Contains(scraped, l) {
				wrong = append(wrong, metric+" has no label "+l)
			}
		}
		for _, m := range matcherRE.FindAllStringSubmatch(sel[2], -1) {
			switch values, ok := labels[m[1]]; {
			case slices.Contains(scraped, m[1]):
			case !ok:
				wrong = append(wrong, metric+" has no label "+m[1])
			case m[2] == "=" && !values[m[3]]:
				wrong = append(wrong, fmt.Sprintf("%s has no %s of %q", metric, m[1], m[3]))
			case m[2] == "=~" && m[1] == "gostream_outcome":
				for name := range strings.SplitSeq(m[3], "|") {
					if !slices.Contains(outcomes(), name) {
						wrong = append(wrong, fmt.Sprintf("%q is no outcome", name))
					}
				}
			}
		}
	}
	if strings.Count(q.expr, "(") != strings.Count(q.expr, ")") || strings.Count(q.expr, "{") != strings.Count(q.expr, "}") {
		wrong = append(wrong, "its brackets do not match: "+q.expr)
	}
	return wrong
}

// Every metric and every label that the dashboard and the alerts name comes out of a
// service, and the dashboard leaves none out.
func TestDashboardAndAlertsNameWhatThereIs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all, _ := exercise(t)
		dashboard, alerts := dashboardQueries(t), alertQueries(t)
		if len(dashboard) < 25 || len(alerts) < 10 {
			t.Errorf("%d queries of the dashboard and %d alerts were read", len(dashboard), len(alerts))
		}
		used := map[string]bool{}
		for _, q := range append(dashboard, alerts...) {
			for _, p := range q.problems(all, used) {
				t.Errorf("%s: %s", q.where, p)
			}
		}
		shown := map[string]bool{}
		for metric := range used {
			shown[family(metric)] = true
		}
		for _, s := range all {
			if f := family(s.metric); !shown[f] && f != "target_info" {
				t.Errorf("%s is not shown", f)
				shown[f] = true
			}
		}
	})
}

// family is a metric without what a histogram adds to its name.
func family(metric string) string {
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		metric = strings.TrimSuffix(metric, suffix)
	}
	return metric
}

// The check finds what is wrong.
func TestQueryProblems(t *testing.T) {
	t.Parallel()
	all := []series{{"gostream_a", map[string]string{"x": "1", "gostream_outcome": "acked"}, 1}}
	for _, test := range []struct {
		q    query
		want int
	}{
		{query{expr: `sum by (x, job) (rate(gostream_a{x="1", job=~"$job"}[5m]))`, labels: []string{"x"}}, 0},
		{query{expr: `gostream_b`}, 1},
		{query{expr: `gostream_a{y="1"}`}, 1},
		{query{expr: `gostream_a{x="2"}`}, 1},
		{query{expr: `sum by (y) (gostream_a)`}, 1},
		{query{expr: `gostream_a`, labels: []string{"y"}}, 1},
		{query{expr: `(gostream_a`}, 1},
		{query{expr: `gostream_a{gostream_outcome=~"retried|acked"}`}, 0},
		{query{expr: `gostream_a{gostream_outcome=~"retried|dead_lettered"}`}, 1},
		{query{expr: `up`}, 1},
	} {
		if got := test.q.problems(all, map[string]bool{}); len(got) != test.want {
			t.Errorf("%v: %q, want %d problems", test.q, got, test.want)
		}
	}
}
