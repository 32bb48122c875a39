package main

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
	"github.com/gostream/gostream/otelgostream"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// On Kafka the time of queueing is that since the record's own time, also where its publisher
// is no gostream; spans say which record it was, and on which server.
func TestKafka(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	at := cluster.ListenAddrs()[0]
	client, err := kgo.NewClient(kgo.SeedBrokers(at), kgo.DefaultProduceTopic("orders"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, record := range []*kgo.Record{
		{Value: []byte("old"), Timestamp: time.Now().Add(-7 * time.Minute)},
		{Value: []byte("of a clock that is ahead"), Timestamp: time.Now().Add(time.Hour)},
	} {
		if err := client.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	spans, metrics := tracetest.NewSpanRecorder(), newTelemetry()
	b := kafka.New(at, kafka.ClientOptions(kgo.MetadataMinAge(20*time.Millisecond)))
	done := make(chan struct{}, 3)
	r := gostream.NewRouter()
	r.HandleSource(kafka.Topic("orders").Group("office"), gostream.Consume(func(context.Context, string) error { return nil }))
	app := gostream.New("office", "1", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	otelgostream.Instrument(app, otelgostream.WithMeterProvider(metrics.metrics.MeterProvider()),
		otelgostream.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))))
	app.Observe(gostream.Observer{Settled: func(gostream.SettledEvent) { done <- struct{}{} }})
	app.Mount(b, r)
	p := app.RawPublisher(b)
	svc, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(t.Context(), broker.OutgoingMessage{Name: "orders", Payload: []byte("new")}); err != nil {
		t.Error(err)
	}
	late := time.After(20 * time.Second)
	for range 3 {
		select {
		case <-done:
		case <-late:
			t.Fatal("the messages have not come")
		}
	}
	all := scrape(t, metrics)
	if err := svc.Shutdown(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}

	const minutes = 60
	if n, s := sum(all, "gostream_queue_duration_seconds_count"), sum(all, "gostream_queue_duration_seconds_sum"); n != 3 || s < 7*minutes || s > 8*minutes {
		t.Errorf("%v messages were queued for %v s in all, want 3 and some 420 s", n, s)
	}
	host, port, _ := net.SplitHostPort(at)
	server := []string{"messaging_system=kafka", "server_address=" + host, "server_port=" + port}
	if n := sum(all, "messaging_client_consumed_messages_total", append(server, "messaging_consumer_group_name=office")...); n != 3 {
		t.Errorf("%v messages were consumed from %v, want 3", n, server)
	}
	if n := sum(all, "messaging_client_sent_messages_total", server...); n != 1 {
		t.Errorf("%v messages were sent to %v, want 1", n, server)
	}
	var records []string
	for _, s := range spans.Ended() {
		if !strings.HasPrefix(s.Name(), "process") {
			continue
		}
		var record string
		for _, a := range s.Attributes() {
			switch a.Key {
			case "messaging.destination.partition.id", "messaging.kafka.offset":
				record += " " + a.Value.String()
			}
		}
		records = append(records, record)
	}
	if want := []string{" 0 0", " 0 1", " 0 2"}; !slices.Equal(records, want) {
		t.Errorf("the records are %q, want %q", records, want)
	}
}
