package brokertest

import (
	"fmt"
	"slices"

	"github.com/gostream/gostream/broker"
)

// headerChecks belong to the group shape.
var headerChecks = []check{
	{
		name:  "header-values",
		rule:  "a header's value arrives byte for byte, or Publish answers ErrInvalid and nothing is sent",
		where: "broker.Headers",
		run:   checkHeaderValues,
	},
	{
		name:  "header-repeated",
		rule:  "the values of a repeated header arrive as they are, in their order, or Publish answers ErrInvalid and nothing is sent",
		where: "broker.Headers",
		run:   checkHeaderRepeated,
	},
	{
		name:  "header-case",
		rule:  "header keys keep the case in which they were written and are found whatever the case",
		where: "broker.Headers",
		run:   checkHeaderCase,
	},
	{
		name:  "header-keys",
		rule:  "a header's key arrives as it is, or Publish answers ErrInvalid and nothing is sent",
		where: "broker.Headers",
		run:   checkHeaderKeys,
	},
	{
		name:  "header-many",
		rule:  "a message with 100 headers arrives with all of them, or Publish answers ErrInvalid and nothing is sent",
		where: "broker.Headers",
		run:   checkHeaderMany,
	},
	{
		name:  "header-well-known",
		rule:  "content type, correlation id, reply-to and message id arrive as they were set, or Publish answers ErrInvalid and nothing is sent",
		where: "package broker, the well-known headers",
		run:   checkHeaderWellKnown,
	},
	{
		name:  "header-message-id",
		rule:  "a message id does not de-duplicate: two messages with the same id both arrive",
		where: "package broker, the well-known headers",
		run:   checkHeaderMessageID,
	},
}

// headerCase is the fields of one message.
type headerCase struct {
	what   string
	fields []broker.Header
}

// tryHeaders publishes a message with each of the cases and compares what arrives.
func tryHeaders(e *env, cases ...headerCase) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	refused := 0
	for i, c := range cases {
		payload := fmt.Sprintf("message %d", i)
		err := l.try(broker.OutgoingMessage{Payload: []byte(payload), Headers: broker.NewHeaders(c.fields...)})
		if err != nil {
			if err := mustBe("Publish with "+c.what, err, broker.ErrInvalid); err != nil {
				return err
			}
			refused++
			continue
		}
		d, err := s.one(payload)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if err := sameHeaders(c.fields, d.Headers()); err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if refused == 0 {
		return nil
	}
	if refused == len(cases) {
		e.saw(capHeaders, "refused, in part at least")
	}
	return s.quiet() // nothing of what was refused
}

// sameHeaders compares the fields of each key that was published. Others may have
// been added on the way.
func sameHeaders(published []broker.Header, got broker.Headers) error {
	for i, f := range published {
		var want, have []string
		for _, g := range published {
			if broker.EqualKey(g.Key, f.Key) {
				want = append(want, g.Key+"="+g.Value)
			}
		}
		for k, v := range got.All() {
			if broker.EqualKey(k, f.Key) {
				have = append(have, k+"="+v)
			}
		}
		if !slices.Equal(want, have) {
			return fmt.Errorf("published %.300q, received %.300q", want, have)
		}
		first := published[slices.IndexFunc(published, func(g broker.Header) bool { return broker.EqualKey(g.Key, f.Key) })]
		if v, ok := got.Lookup(f.Key); !ok || v != first.Value {
			return fmt.Errorf("field %d: Lookup(%q) is %.100q, %v, want %.100q, true", i, f.Key, v, ok, first.Value)
		}
	}
	return nil
}

func checkHeaderValues(e *env) error {
	cases := []headerCase{
		{"no headers", nil},
		{"a plain header", []broker.Header{{Key: "tenant", Value: "acme"}}},
	}
	e.saw(capHeaders, "yes")
	for _, c := range []struct{ what, value string }{
		{"an empty value", ""},
		{"a value that is not UTF-8", "\xff\xfe\xc3\x28"},
		{"a value with a line end", "a\r\nb: c"},
		{"a value that ends with a line end", "a\n"},
		{"a value with a zero byte", "a\x00b"},
		{"a value with white space around it", "  a\t"},
		{"a value of punctuation", `a:b;c=d,"e"\%20+`},
		{"a value of two alphabets", "grüße, мир"},
	} {
		cases = append(cases, headerCase{c.what, []broker.Header{{Key: "before", Value: "1"}, {Key: "odd", Value: c.value}, {Key: "then", Value: "2"}}})
	}
	return tryHeaders(e, cases...)
}

func checkHeaderRepeated(e *env) error {
	return tryHeaders(e,
		headerCase{"three values of one key", []broker.Header{{Key: "tag", Value: "c"}, {Key: "other", Value: "x"}, {Key: "tag", Value: "a"}, {Key: "tag", Value: "b"}}},
		headerCase{"the same value twice", []broker.Header{{Key: "tag", Value: "a"}, {Key: "tag", Value: "a"}}},
		headerCase{"values with commas", []broker.Header{{Key: "tag", Value: "a,b"}, {Key: "tag", Value: "c, d"}}},
	)
}

func checkHeaderCase(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	fields := []broker.Header{{Key: "X-Tenant-ID", Value: "Acme"}, {Key: "lower-key", Value: "a"}, {Key: "UPPER", Value: "B"}, {Key: "miXed", Value: "c"}}
	err = l.try(broker.OutgoingMessage{Payload: []byte("case"), Headers: broker.NewHeaders(fields...)})
	if err != nil {
		if err := mustBe("Publish with keys in mixed case", err, broker.ErrInvalid); err != nil {
			return err
		}
		return s.quiet()
	}
	d, err := s.one("case")
	if err != nil {
		return err
	}
	if err := sameHeaders(fields, d.Headers()); err != nil {
		return err
	}
	for _, key := range []string{"x-tenant-id", "X-TENANT-ID", "x-Tenant-Id"} {
		if got := d.Headers().Get(key); got != "Acme" {
			return fmt.Errorf("published X-Tenant-ID: Acme, Get(%q) is %q", key, got)
		}
	}
	return d.ack()
}

func checkHeaderKeys(e *env) error {
	var cases []headerCase
	for _, key := range []string{"a-b_c.1", "with space", "with:colon", "line\r\nend: x", "zero\x00byte", "schlüssel", "\xff\xfe", ""} {
		cases = append(cases, headerCase{fmt.Sprintf("the key %q", key), []broker.Header{{Key: key, Value: "v"}}})
	}
	return tryHeaders(e, cases...)
}

func checkHeaderMany(e *env) error {
	var fields []broker.Header
	for i := range 100 {
		fields = append(fields, broker.Header{Key: fmt.Sprintf("header-%d", i), Value: fmt.Sprintf("value %d", i)})
	}
	return tryHeaders(e, headerCase{"100 headers", fields})
}

func checkHeaderWellKnown(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	var refused bool
	for i, c := range []struct {
		what string
		set  func(broker.Headers) broker.Headers
		get  func(broker.Headers) string
		want string
	}{
		{"the content type", func(h broker.Headers) broker.Headers { return h.WithContentType("application/json; charset=utf-8") }, broker.Headers.ContentType, "application/json; charset=utf-8"},
		{"the correlation id", func(h broker.Headers) broker.Headers { return h.WithCorrelationID("c-1/2") }, broker.Headers.CorrelationID, "c-1/2"},
		{"the reply-to", func(h broker.Headers) broker.Headers { return h.WithReplyTo(l.t.Name) }, broker.Headers.ReplyTo, l.t.Name},
		{"the message id", func(h broker.Headers) broker.Headers { return h.WithMessageID(e.id + "-m1") }, broker.Headers.MessageID, e.id + "-m1"},
		{"all four", func(h broker.Headers) broker.Headers {
			return h.WithContentType("text/plain").WithCorrelationID("c2").WithReplyTo(l.t.Name).WithMessageID(e.id + "-m2")
		}, func(h broker.Headers) string {
			return h.ContentType() + " " + h.CorrelationID() + " " + h.ReplyTo() + " " + h.MessageID()
		}, "text/plain c2 " + l.t.Name + " " + e.id + "-m2"},
	} {
		payload := fmt.Sprintf("well known %d", i)
		h := c.set(broker.NewHeaders(broker.Header{Key: "other", Value: "kept"}))
		if err := l.try(broker.OutgoingMessage{Payload: []byte(payload), Headers: h}); err != nil {
			if err := mustBe("Publish with "+c.what, err, broker.ErrInvalid); err != nil {
				return err
			}
			refused = true
			continue
		}
		d, err := s.one(payload)
		if err != nil {
			return fmt.Errorf("%s: %w", c.what, err)
		}
		if got := c.get(d.Headers()); got != c.want {
			return fmt.Errorf("%s: published %q, received %q", c.what, c.want, got)
		}
		if got := d.Headers().Values("other"); len(got) != 1 || got[0] != "kept" {
			return fmt.Errorf("%s: the header beside it was %q, is %q", c.what, "kept", got)
		}
		if err := d.ack(); err != nil {
			return err
		}
	}
	if !refused {
		return nil
	}
	return s.quiet()
}

func checkHeaderMessageID(e *env) error {
	l, s, err := e.open()
	if err != nil {
		return err
	}
	h := broker.Headers{}.WithMessageID(e.id + "-same")
	for _, payload := range []string{"first", "second"} {
		if err := l.try(broker.OutgoingMessage{Payload: []byte(payload), Headers: h}); err != nil {
			return mustBe("Publish with a message id", err, broker.ErrInvalid)
		}
	}
	return s.consume(newTally([]string{"first", "second"}))
}
