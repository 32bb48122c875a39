package nats

import (
	"errors"
	"maps"
	"slices"
	"testing"

	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
)

func outgoing(fields ...broker.Header) *broker.OutgoingMessage {
	return &broker.OutgoingMessage{Name: "a", Headers: broker.NewHeaders(fields...)}
}

func TestEncodeHeader(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		msg    *broker.OutgoingMessage
		want   natsgo.Header
		broken error
	}{
		{"none", outgoing(), nil, nil},
		{"several", outgoing(broker.Header{Key: "a", Value: "1"}, broker.Header{Key: "B", Value: ""}, broker.Header{Key: "a", Value: "2"}), natsgo.Header{"a": {"1", "2"}, "B": {""}}, nil},
		{"two spellings", outgoing(broker.Header{Key: "Tag", Value: "1"}, broker.Header{Key: "tag", Value: "2"}), natsgo.Header{"Tag": {"1", "2"}}, nil},
		{"a key", &broker.OutgoingMessage{Key: []byte("k 1"), Headers: broker.NewHeaders(broker.Header{Key: "GoStream-Key", Value: "old"})}, natsgo.Header{"gostream-key": {"k%201"}}, nil},
		{"an empty key", &broker.OutgoingMessage{Key: []byte{}}, natsgo.Header{"gostream-key": {""}}, nil},
		{"skipped", outgoing(broker.Header{Key: "Reply-To", Value: "x"}), nil, nil},
		{"status", outgoing(broker.Header{Key: "status", Value: "503"}), nil, errHeaderReserved},
		{"description", outgoing(broker.Header{Key: "DESCRIPTION", Value: "x"}), nil, errHeaderReserved},
		{"nats", outgoing(broker.Header{Key: "nats-Anything", Value: "x"}), nil, errHeaderReserved},
		{"empty", outgoing(broker.Header{Key: "", Value: "x"}), nil, errHeaderKey},
		{"a colon", outgoing(broker.Header{Key: "a:b", Value: "x"}), nil, errHeaderKey},
		{"not ascii", outgoing(broker.Header{Key: "schlüssel", Value: "x"}), nil, errHeaderKey},
		{"a line end", outgoing(broker.Header{Key: "a", Value: "x\ny"}), nil, errHeaderLine},
		{"a return", outgoing(broker.Header{Key: "a", Value: "x\r"}), nil, errHeaderLine},
		{"white space", outgoing(broker.Header{Key: "a", Value: " x"}), nil, errHeaderSpace},
		{"a tab", outgoing(broker.Header{Key: "a", Value: "x\t"}), nil, errHeaderSpace},
	} {
		got, err := encodeHeader(tt.msg, broker.HeaderReplyTo, nil)
		if !errors.Is(err, tt.broken) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.broken)
		}
		if !maps.EqualFunc(got, tt.want, slices.Equal) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

// FuzzHeaderView: what an arrived message shows can be published, and arrives as it is.
func FuzzHeaderView(f *testing.F) {
	f.Add("NATS/1.0\r\na: b\r\nA: c \r\nNats-Msg-Id: 1\r\n\r\n")
	f.Add("NATS/1.0 503 nobody\r\nx: \ty\t\r\nweird key: 1\r\n\r\n")
	f.Add("NATS/1.0\r\na:b\rc\r\nStatus: 200\r\n\r\n")
	f.Add("NATS/1.0\r\ngostream-key: a%0Ab%zz%\r\n\r\n")
	f.Fuzz(func(t *testing.T, raw string) {
		arrived, err := natsgo.DecodeHeadersMsg([]byte(raw))
		if err != nil {
			return
		}
		h := broker.ViewHeaders(headerView(arrived))
		n := 0
		for key, value := range h.All() {
			n++
			if _, ok := h.Lookup(key); !ok {
				t.Errorf("%q is listed and not found", key)
			}
			if isReserved(key) {
				t.Errorf("%q is reserved and listed", key)
			}
			if again, ok := shown(value); !ok || again != value {
				t.Errorf("the value %q is not as it is shown", value)
			}
		}
		if n != h.Len() {
			t.Errorf("Len is %d, listed are %d", h.Len(), n)
		}
		msg := &broker.OutgoingMessage{Name: "a", Headers: h, Key: partitionKey(headerView(arrived))}
		if _, err := encodeHeader(msg, "", nil); err != nil {
			t.Errorf("what arrived cannot be published: %v", err)
		}
	})
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("customer-7"))
	f.Add([]byte("\xff\xfe\x00 %41\r\n"))
	f.Fuzz(func(t *testing.T, key []byte) {
		s := escapeKey(key)
		if err := checkHeaderValue(s); err != nil {
			t.Errorf("the key %q is written as %q: %v", key, s, err)
		}
		if got := unescapeKey(s); string(got) != string(key) {
			t.Errorf("the key %q came back as %q", key, got)
		}
	})
}

// A key that somebody else wrote is taken as it is, as far as it can be.
func TestUnescapeKey(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"50%": "50%", "%zz": "%zz", "%4": "%4", "%41%": "A%", "%e4": "\xe4"} {
		if got := unescapeKey(s); string(got) != want {
			t.Errorf("%q is read as %q, want %q", s, got, want)
		}
	}
}

func TestAckTokens(t *testing.T) {
	t.Parallel()
	for _, reply := range []string{
		"$JS.ACK.ORDERS.ledger.3.17.21.1795580810254225168.4",
		"$JS.ACK.hub.ACC12345.ORDERS.ledger.3.17.21.1795580810254225168.4",
		"$JS.ACK.hub.ACC12345.ORDERS.ledger.3.17.21.1795580810254225168.4.rAnd0m",
	} {
		m := &Message{stored: stored{msg: &natsgo.Msg{Reply: reply}}}
		if m.Stream() != "ORDERS" || m.Consumer() != "ledger" || m.DeliveryCount() != 3 || m.Sequence() != 17 || ackNumber(reply, ackConsumerSequence) != 21 || m.Time().UnixNano() != 1795580810254225168 {
			t.Errorf("%s is read as %q %q %d %d %v", reply, m.Stream(), m.Consumer(), m.DeliveryCount(), m.Sequence(), m.Time())
		}
	}
	for _, reply := range []string{"", "_INBOX.x", "$JS.ACK.", "$JS.ACK.a", "$JS.ACK.a.b.c.d"} {
		if n := ackNumber(reply, ackDelivered); n != 0 {
			t.Errorf("%q is delivery %d", reply, n)
		}
	}
}
