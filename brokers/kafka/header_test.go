package kafka_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/kafka"
)

// someHeaders are what a header may be: keys that repeat, values that are no text.
var someHeaders = []broker.Header{
	{Key: "trace", Value: "1"},
	{Key: "Trace", Value: "2"},
	{Key: "other", Value: ""},
	{Key: "trace", Value: "1"},
	{Key: "binary", Value: "\x00\xff\r\n\x80"},
	{Key: "", Value: "of the empty key"},
	{Key: "ключ 鍵", Value: "значение"},
	{Key: "with space\n\x00:", Value: strings.Repeat("x", 100_000)},
	{Key: "Content-Type", Value: "application/json"},
}

func fields(h broker.Headers) (list []broker.Header) {
	for key, value := range h.All() {
		list = append(list, broker.Header{Key: key, Value: value})
	}
	return list
}

// Headers arrive as they were published, in their order, and are looked up whatever the
// case, by each kind of source.
func TestHeadersArriveAsTheyWere(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	x.publish(
		broker.OutgoingMessage{Name: topic, Headers: broker.NewHeaders(someHeaders...)},
		broker.OutgoingMessage{Name: topic},
	)
	// The other clients see the bytes.
	rec := x.records(topic, 2)[0]
	for i, h := range rec.Headers {
		if h.Key != someHeaders[i].Key || string(h.Value) != someHeaders[i].Value || h.Value == nil {
			t.Errorf("header %d is %q: %.40q", i, h.Key, h.Value)
		}
	}
	for _, src := range []broker.Source{kafka.Topic(topic).Group("g"), kafka.Topic(topic).Group("a").AutoCommit(), kafka.Partitions(topic, 0)} {
		sub := x.subscribe(src)
		h := x.receive(sub).Headers()
		if got := fields(h); !slices.Equal(got, someHeaders) {
			t.Errorf("%s: %.500v", src, got)
		}
		if h.Len() != len(someHeaders) {
			t.Errorf("%s: %d headers", src, h.Len())
		}
		for _, key := range []string{"trace", "TRACE", "tRaCe"} {
			if got := h.Values(key); !slices.Equal(got, []string{"1", "2", "1"}) || h.Get(key) != "1" {
				t.Errorf("%s: %s is %q, the first %q", src, key, got, h.Get(key))
			}
		}
		if v, ok := h.Lookup("OTHER"); !ok || v != "" {
			t.Errorf("%s: an empty value: %q, %v", src, v, ok)
		}
		if v, ok := h.Lookup("absent"); ok {
			t.Errorf("%s: an absent one is %q", src, v)
		}
		if h.Get("") != "of the empty key" || h.Get("BINARY") != "\x00\xff\r\n\x80" || h.ContentType() != "application/json" {
			t.Errorf("%s: %.500v", src, h)
		}
		// They are not kept apart: a changed copy leaves the message's own alone.
		_ = h.With("trace", "changed").Without("other")
		if h.Get("trace") != "1" || !h.Has("other") {
			t.Errorf("%s: changed to %.500v", src, h)
		}
		if none := x.receive(sub).Headers(); none.Len() != 0 || none.Has("trace") {
			t.Errorf("%s: no headers arrive as %v", src, none)
		}
	}
}

// Headers of a message that came are published again as they are.
func TestHeadersAreForwarded(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	from, to := x.site.topic(t, 1), x.site.topic(t, 1)
	x.publish(broker.OutgoingMessage{Name: from, Headers: broker.NewHeaders(someHeaders...)})
	m := x.receive(x.subscribe(kafka.Topic(from).Group("g")))
	x.publish(broker.OutgoingMessage{Name: to, Headers: m.Headers().WithAdded("hop", "1")})
	again := x.receive(x.subscribe(kafka.Topic(to).Group("g")))
	if got, want := fields(again.Headers()), append(slices.Clone(someHeaders), broker.Header{Key: "hop", Value: "1"}); !slices.Equal(got, want) {
		t.Errorf("%.500v", got)
	}
}

// A key that is no text is refused, quoted; the message is not altered in silence.
func TestHeaderKeysThatAreNoText(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	for _, key := range []string{"\xff", "a\x80b", "\xc3", "\xed\xa0\x80"} {
		err := x.b.Publisher().Publish(t.Context(), broker.OutgoingMessage{
			Name: topic, Headers: broker.NewHeaders(broker.Header{Key: "fine", Value: "x"}, broker.Header{Key: key, Value: "a secret value"}),
		})
		if !errors.Is(err, broker.ErrInvalid) || !strings.Contains(fmt.Sprint(err), "a header key is not valid UTF-8: "+broker.Quote(key)) || strings.Contains(fmt.Sprint(err), "secret") {
			t.Errorf("%q: %v", key, err)
		}
	}
	if end := x.site.cluster.PartitionInfo(topic, 0).HighWatermark; end != 0 {
		t.Errorf("%d messages were published", end)
	}
}

// What another client may write, and this one does not, can be read: values that are null,
// keys that are no text.
func TestHeadersOfOtherClients(t *testing.T) {
	t.Parallel()
	x := ownCluster(t, 1).trial(t)
	topic := x.site.topic(t, 1)
	rec := &kgo.Record{Topic: topic, Headers: []kgo.RecordHeader{{Key: "null"}, {Key: "n\xffkey", Value: []byte("v")}, {Key: "last", Value: []byte{}}}}
	if err := x.site.plain.ProduceSync(t.Context(), rec).FirstErr(); err != nil {
		t.Fatal(err)
	}
	h := x.receive(x.subscribe(kafka.Topic(topic).Group("g"))).Headers()
	if v, ok := h.Lookup("NULL"); !ok || v != "" {
		t.Errorf("null is %q, %v", v, ok)
	}
	if h.Get("n\xffkey") != "v" || !h.Has("last") || h.Len() != 3 {
		t.Errorf("%q", fields(h))
	}
}
