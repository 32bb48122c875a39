package brokertest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/gostream/gostream/broker"
)

// describeChecks: what is said to people and to documents.
var describeChecks = []check{
	{
		name:  "server",
		rule:  "the server is described before Connect, each host is an address and nothing more",
		where: "broker.ServerDescriber, DescribeServer; broker.ServerSpec",
		run:   checkDescribeServer,
	},
	{
		name:  "source",
		rule:  "a source describes itself before any I/O, always the same, and its bindings encode as JSON",
		where: "broker.SourceDescriber, Spec; broker.SourceSpec",
		run:   checkDescribeSource,
	},
	{
		name:  "secrets-in-descriptions",
		rule:  "no description holds a credential: not of the server, not of a source, not of a broker or any other handle that is printed",
		where: "broker.ServerSpec; package broker, Rules that hold for every handle",
		needs: []need{needSecrets},
		run:   checkSecretsDescribed,
	},
	{
		name:  "secrets-in-errors",
		rule:  "no error text carries a credential, in whatever way it is printed",
		where: "broker.Error, Err; package broker, Rules that hold for every handle",
		needs: []need{needSecrets},
		run:   checkSecretsInErrors,
	},
	{
		name:  "secrets-when-cut",
		rule:  "neither the errors nor the events of a lost connection carry a credential",
		where: "broker.Event, Err; package broker, Rules that hold for every handle",
		needs: []need{needSecrets, needInterrupt},
		run:   checkSecretsWhenCut,
	},
}

func checkDescribeServer(e *env) error {
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	before, ok := broker.DescribeServer(b)
	if !ok {
		e.saw(capServer, "no")
		return e.notApplicable("the broker does not describe its server")
	}
	e.saw(capServer, "yes")
	if before.Protocol == "" {
		return fmt.Errorf("the description %+v has no protocol", before)
	}
	for _, host := range before.Hosts {
		if host == "" || strings.ContainsAny(host, "@/?# \t\r\n") {
			return fmt.Errorf("the description has the host %q, want \"host\" or \"host:port\"", host)
		}
	}
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	if after, _ := broker.DescribeServer(b); !reflect.DeepEqual(before, after) {
		return fmt.Errorf("the server was described as %+v, after Connect as %+v", before, after)
	}
	return nil
}

func checkDescribeSource(e *env) error {
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	for what, src := range e.sources() {
		if src.Name() == "" {
			return fmt.Errorf("the source of Harness.%s has no name", what)
		}
		before, described := broker.DescribeSource(src, b)
		if before.Limit < 0 || before.Properties.MaxPayload < 0 {
			return fmt.Errorf("the source of Harness.%s describes itself as %+v: a bound is negative", what, before)
		}
		if _, err := json.Marshal(before.Bindings); err != nil {
			return fmt.Errorf("the bindings of the source of Harness.%s: %w", what, err)
		}
		connected, err := e.connect()
		if err != nil {
			return err
		}
		if after, ok := broker.DescribeSource(src, connected); ok != described || !reflect.DeepEqual(before, after) {
			return fmt.Errorf("the source of Harness.%s described itself as %+v, with a broker that is connected as %+v", what, before, after)
		}
	}
	return nil
}

// sources yields a source of each kind that the harness has, by the harness's field.
// What the harness fails to make is left out.
func (e *env) sources() map[string]broker.Source {
	m := make(map[string]broker.Source)
	if t, err := e.target(); err == nil {
		m["Source"] = t.Source
	}
	if e.h.Lease != nil {
		if t, err := e.targetOf("Lease", e.h.Lease); err == nil {
			m["Lease"] = t.Source
		}
	}
	if e.h.Group != nil {
		if g, err := e.newGroup(); err == nil {
			m["Group"] = g.Member("a")
		}
	}
	if e.h.Pattern != nil {
		if p, err := e.newPattern(); err == nil {
			m["Pattern"] = p.Source
		}
	}
	return m
}

// scanner looks for secrets.
type scanner struct {
	forms []form
	found []error
}

// form is one way to write a secret.
type form struct{ what, text string }

func newScanner(secrets []string) *scanner {
	s := &scanner{}
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		raw := []byte(secret)
		for _, f := range []form{
			{"as it is", secret},
			{"escaped as in a URL's query", url.QueryEscape(secret)},
			{"escaped as in a URL's path", url.PathEscape(secret)},
			{"escaped as in a URL's user", strings.TrimPrefix(url.UserPassword("", secret).String(), ":")},
			{"quoted", strings.Trim(strconv.Quote(secret), `"`)},
			{"quoted as JSON", quoteJSON(secret)},
			{"as bytes", strings.Trim(fmt.Sprint(raw), "[]")},
			{"as bytes in Go's syntax", strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", raw), "[]byte{"), "}")},
			{"in hexadecimal", fmt.Sprintf("%x", raw)},
			{"in base64", base64.RawStdEncoding.EncodeToString(raw)},
			{"in base64 for URLs", base64.RawURLEncoding.EncodeToString(raw)},
		} {
			if !slices.ContainsFunc(s.forms, func(g form) bool { return g.text == f.text }) {
				s.forms = append(s.forms, f)
			}
		}
	}
	return s
}

func quoteJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		return s
	}
	return strings.Trim(string(b), `"`)
}

// text looks for secrets in a text, and in what is left when its URL escapes are
// undone.
func (s *scanner) text(where, text string) {
	path := unescape(text)
	query := unescape(strings.ReplaceAll(text, "+", " "))
	for _, f := range s.forms {
		if strings.Contains(text, f.text) || strings.Contains(path, f.text) || strings.Contains(query, f.text) {
			// The secret itself must not be in the error.
			s.found = append(s.found, fmt.Errorf("%s has a secret of the harness in it, %s", where, f.what))
			return
		}
	}
}

// unescape undoes the URL escapes of any text.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// value looks for secrets in a value that no other goroutine uses, in every way of
// printing it.
func (s *scanner) value(where string, v any) {
	verbs := []string{"%v", "%+v", "%#v"}
	switch v.(type) {
	case fmt.Stringer, fmt.Formatter, error:
		verbs = append(verbs, "%s", "%q")
	}
	for _, verb := range verbs {
		s.text(where+" printed with "+verb, fmt.Sprintf(verb, v))
	}
}

// live is value for a handle that is in use. What prints it by reflection would read
// what other goroutines write, and so only its own methods are asked.
func (s *scanner) live(where string, v any) {
	switch v.(type) {
	case fmt.Formatter:
		s.value(where, v)
		return
	case fmt.Stringer, error:
		for _, verb := range []string{"%v", "%+v", "%s", "%q"} {
			s.text(where+" printed with "+verb, fmt.Sprintf(verb, v))
		}
	}
	if _, ok := v.(fmt.GoStringer); ok {
		s.text(where+" printed with %#v", fmt.Sprintf("%#v", v))
	}
}

// error looks for secrets in an error and in every error that it wraps.
func (s *scanner) error(where string, err error) {
	if err == nil {
		return
	}
	s.value(where, err)
	switch u := err.(type) {
	case interface{ Unwrap() error }:
		s.error(where, u.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range u.Unwrap() {
			s.error(where, err)
		}
	}
}

// message looks for secrets in a delivery.
func (s *scanner) message(where string, m broker.IncomingMessage) {
	s.live(where, m)
	s.text("the name of "+where, m.Name())
	s.text("the headers of "+where, m.Headers().String())
	for key, value := range m.Headers().All() {
		s.text("a header of "+where, key+": "+value)
	}
}

// result returns what was found.
func (s *scanner) result() error { return errors.Join(s.found...) }

func checkSecretsDescribed(e *env) error {
	scan := newScanner(e.h.Secrets)
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	scan.value("the broker before Connect", b)
	scan.value("its properties", broker.PropertiesOf(b))
	if spec, ok := broker.DescribeServer(b); ok {
		scan.value("the description of the server", spec)
		for _, host := range spec.Hosts {
			scan.text("a host of the server", host)
		}
	}
	for what, src := range e.sources() {
		scan.value("the source of Harness."+what, src)
		scan.text("the name of the source of Harness."+what, src.Name())
		spec, _ := broker.DescribeSource(src, b)
		scan.value("the description of the source of Harness."+what, spec)
		if data, err := json.Marshal(spec.Bindings); err == nil {
			scan.text("the bindings of the source of Harness."+what, string(data))
		}
	}
	t, err := e.target()
	if err != nil {
		return err
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	scan.value("a publisher before Connect", l.pub)
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	scan.live("the broker after Connect", b)
	scan.live("a publisher after Connect", l.pub)
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	scan.live("a subscription", s.sub)
	if err := l.publish("m"); err != nil {
		return err
	}
	d, err := s.one("m")
	if err != nil {
		return err
	}
	scan.message("a delivery", d.IncomingMessage)
	if err := d.ack(); err != nil {
		return err
	}
	if err := e.shutdown(b); err != nil {
		return err
	}
	scan.live("the broker after Shutdown", b)
	return scan.result()
}

// operations calls everything that is there to be called and looks at the errors.
func (scan *scanner) operations(when string, l *link, s *stream, d *delivery) {
	e := l.e
	try := func(what string, f func(ctx context.Context) error) {
		ctx, cancel := context.WithTimeout(e.ctx, e.h.Quiet)
		defer cancel()
		scan.error("the error of "+what+" "+when, e.bounded(ctx, what, f))
	}
	for _, bad := range l.badMessages() {
		msg := broker.OutgoingMessage{Name: l.t.Name, Payload: []byte("bad")}
		bad.spoil(&msg)
		try("Publish with "+bad.what, func(ctx context.Context) error { return l.pub.Publish(ctx, msg) })
	}
	try("Publish", func(ctx context.Context) error {
		return l.pub.Publish(ctx, broker.OutgoingMessage{Name: l.t.Name, Payload: []byte("m " + newID())})
	})
	try("PublishBatch", func(ctx context.Context) error { return broker.PublishBatch(ctx, l.pub, l.batchOf("m "+newID())) })
	try("Request", func(ctx context.Context) error {
		_, err := broker.Request(ctx, l.pub, l.batchOf("m " + newID())[0])
		return err
	})
	try("Begin", func(ctx context.Context) error {
		t, err := broker.Begin(ctx, l.pub)
		if err != nil {
			return err
		}
		return t.Abort(ctx)
	})
	try("Health", func(ctx context.Context) error { return broker.Health(ctx, l.b) })
	try("Subscribe", func(ctx context.Context) error {
		sub, err := l.t.Source.Subscribe(ctx, l.b)
		if err != nil {
			return err
		}
		return sub.Close(ctx)
	})
	if s != nil {
		try("Receive", func(ctx context.Context) error {
			_, err := s.sub.Receive(ctx)
			return err
		})
		try("Lag", func(ctx context.Context) error {
			_, err := broker.Lag(ctx, s.sub)
			return err
		})
	}
	if d != nil {
		try("ExtendLease", func(ctx context.Context) error { return broker.ExtendLease(ctx, d.IncomingMessage) })
		try("Ack", d.Ack)
		try("a second Ack", d.Ack)
		try("Nack", func(ctx context.Context) error { return d.Nack(ctx, true) })
	}
}

func checkSecretsInErrors(e *env) error {
	scan := newScanner(e.h.Secrets)
	t, err := e.target()
	if err != nil {
		return err
	}
	if e.h.Misconfigured != nil {
		b := e.h.Misconfigured()
		e.atEnd("Shutdown", func(ctx context.Context) error { _ = b.Shutdown(ctx); return nil })
		scan.error("the error of Check of a broker with mistakes", broker.Check(b))
		scan.error("the error of Connect of a broker with mistakes", e.call("Connect", b.Connect))
	}
	if e.h.Unreachable != nil {
		b := e.h.Unreachable()
		e.atEnd("Shutdown", func(ctx context.Context) error { _ = b.Shutdown(ctx); return nil })
		scan.error("the error of Check of a broker without a server", broker.Check(b))
		short, cancel := context.WithTimeout(e.ctx, e.h.Timeout/2)
		defer cancel()
		scan.error("the error of Connect without a server", e.bounded(short, "Connect", b.Connect))
		if l, err := e.link(t, b); err == nil {
			scan.operations("without a server", l, nil, nil)
		}
	}
	for what, src := range e.sources() {
		scan.error("the error of the Check of the source of Harness."+what+" for a foreign broker", src.Check(foreignBroker{}))
		_, err := src.Subscribe(e.ctx, foreignBroker{})
		scan.error("the error of Subscribe of the source of Harness."+what+" on a foreign broker", err)
	}
	early, err := e.newBroker()
	if err != nil {
		return err
	}
	l, err := e.link(t, early)
	if err != nil {
		return err
	}
	scan.operations("before Connect", l, nil, nil)
	l, s, err := e.openOn(t)
	if err != nil {
		return err
	}
	if err := l.publish("m"); err != nil {
		return err
	}
	d, err := s.one("m")
	if err != nil {
		return err
	}
	dead, cancel := context.WithCancel(e.ctx)
	cancel()
	scan.error("the error of Publish with a dead context", e.bounded(dead, "Publish", func(ctx context.Context) error {
		return l.pub.Publish(ctx, broker.OutgoingMessage{Name: t.Name, Payload: []byte("dead")})
	}))
	scan.operations("while connected", l, s, d)
	if err := e.shutdown(l.b); err != nil {
		return err
	}
	scan.operations("after Shutdown", l, s, d)
	scan.error("the error of Connect after Shutdown", e.call("Connect", l.b.Connect))
	return scan.result()
}

func checkSecretsWhenCut(e *env) error {
	scan := newScanner(e.h.Secrets)
	t, err := e.target()
	if err != nil {
		return err
	}
	b, err := e.newBroker()
	if err != nil {
		return err
	}
	var heard listener
	broker.Notify(b, heard.hear)
	if err := e.call("Connect", b.Connect); err != nil {
		return fmt.Errorf("Connect: %w", err)
	}
	l, err := e.link(t, b)
	if err != nil {
		return err
	}
	s, err := l.subscribe()
	if err != nil {
		return err
	}
	if err := l.publish("m"); err != nil {
		return err
	}
	d, err := s.one("m")
	if err != nil {
		return err
	}
	restore, err := e.interrupt()
	if err != nil {
		return err
	}
	scan.operations("while the connection is cut", l, s, d)
	late, err := e.newBroker()
	if err != nil {
		return err
	}
	short, cancel := context.WithTimeout(e.ctx, 3*e.h.Quiet)
	defer cancel()
	scan.error("the error of Connect while the connection is cut", e.bounded(short, "Connect", late.Connect))
	if err := restore(); err != nil {
		return err
	}
	if err := s.heals(l, "after a cut"); err != nil {
		return err
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	for _, ev := range heard.events {
		what := fmt.Sprintf("the event %q", ev.Kind)
		scan.text("the name of "+what, ev.Name)
		scan.error("the error of "+what, ev.Err)
	}
	return scan.result()
}
