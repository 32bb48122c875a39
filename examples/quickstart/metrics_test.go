package main

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"regexp"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/examples/internal/account"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/otelgostream"
)

// The service with metrics on: what a scrape says is what the ledger has seen. (What the
// dashboard and the alerts in deploy/ name is checked by examples/observability, which has
// all there is.)
func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		prom := otelgostream.PrometheusHandler()
		b, msgs := memory.New(), readOrders(orders)
		ledger := account.New(msgs)
		app := App(b, &Shop{Payments: &Payments{Latency: 15 * time.Millisecond}}, ledger, gostream.WithLogger(slog.New(slog.DiscardHandler)))
		otelgostream.Instrument(app, otelgostream.WithMeterProvider(prom.MeterProvider()))
		publisher := app.RawPublisher(b)
		svc, err := app.Start(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := publisher.PublishBatch(t.Context(), msgs); err != nil {
			t.Error(err)
		}
		<-ledger.Done()
		if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}

		rec := httptest.NewRecorder()
		prom.ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), "GET", "/metrics", nil))
		sum := func(series string) (total int) {
			for _, m := range regexp.MustCompile(`(?m)^`+series+`.*\} (\d+)$`).FindAllStringSubmatch(rec.Body.String(), -1) {
				n, _ := strconv.Atoi(m[1]) // digits
				total += n
			}
			return total
		}
		counts := ledger.Counts()
		for series, want := range map[string]int{
			`messaging_client_sent_messages_total\{messaging_destination_name="orders",`:                           counts.Read,
			`messaging_client_consumed_messages_total\{gostream_subscription="orders",`:                            counts.Read,
			`messaging_client_sent_messages_total\{messaging_destination_name="confirmations",`:                    counts.Confirmed,
			`gostream_settled_messages_total\{gostream_outcome="acked",gostream_subscription="orders",`:            counts.Confirmed,
			`gostream_settled_messages_total\{gostream_outcome="acked",gostream_subscription="confirmations",`:     counts.Confirmed,
			`gostream_settled_messages_total\{gostream_outcome="retried",gostream_subscription="orders",`:          counts.Retries,
			`gostream_settled_messages_total\{gostream_outcome="dead-lettered",gostream_subscription="orders",`:    counts.DeadLettered(),
			`gostream_dead_lettered_messages_total\{gostream_reason="[^"]*",gostream_subscription="orders",`:       counts.DeadLettered(),
			`gostream_dead_lettered_messages_total\{gostream_reason="undecodable",gostream_subscription="orders",`: counts.Dead[gostream.ReasonUndecodable],
			`gostream_settled_messages_total\{gostream_outcome="acked",gostream_subscription="orders.dead",`:       counts.DeadLettered(),
		} {
			if got := sum(series); got != want || want == 0 {
				t.Errorf("%s says %d, want %d of what was handled", series, got, want)
			}
		}
		if t.Failed() {
			t.Log(rec.Body)
		}
	})
}
