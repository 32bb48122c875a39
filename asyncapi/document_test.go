package asyncapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

type (
	withFunc struct {
		Call func() `json:"call"`
		In   []struct {
			C chan int `json:"c"`
		} `json:"in"`
		OK int
	}
	withKeys  struct{ M map[struct{ A int }]string }
	panicking struct{ A int }
	rude      struct{ A int }
)

func (panicking) AsyncAPIName() string { panic("no name") }

func (rude) Enum() []any { panic("no values") }

// What cannot be said is told, all of it, with where it is.
func TestDocumentMistakes(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1.0.0")
	b, r := memory.New(), gostream.NewRouter()
	r.Handle("funcs", gostream.Consume(take[withFunc]))
	r.Handle("keys", gostream.Reply(reply[string, withKeys]).To("keys.out"), gostream.Named("keyed"))
	r.Handle("panics", gostream.Consume(take[panicking]))
	r.Handle("rude", gostream.Consume(take[rude]))
	app.Mount(b, r)
	gostream.NewPublisher[map[string]complex128](app, b, "numbers")
	gostream.NewRequester[string, withFunc](app, b, "asks")
	d, err := app.Describe()
	if err != nil {
		t.Fatal(err)
	}
	spec, err := asyncapi.Document(
		d, nil, asyncapi.Version("2.6.0"), asyncapi.License("", ""),
		asyncapi.Server("", broker.ServerSpec{}),
		asyncapi.Server("secret", broker.ServerSpec{Protocol: "nats", Hosts: []string{"anna:hushhush@a:1", "nats://b:1"}}),
		asyncapi.Server("other", broker.ServerSpec{Protocol: "nats", Hosts: []string{"a"}}, memory.New()),
		asyncapi.Parameters("nobody.*", "a"), asyncapi.Parameters("funcs", "a", "a", "b c"),
	)
	if err == nil || spec != nil {
		t.Fatalf("%v, %v", spec, err)
	}
	for _, want := range []string{
		`asyncapi: app "shop" has no document:`,
		`subscription "funcs": type asyncapi_test.withFunc: field call: func() has no JSON: leave it out with the tag json:"-"`,
		`subscription "funcs": type asyncapi_test.withFunc: field in[].c: chan int has no JSON`,
		`subscription "keyed", its reply: type asyncapi_test.withKeys: field M: a map with keys of struct { A int } has no JSON`,
		`AsyncAPIName of a zero asyncapi_test.panicking panics: no name`,
		`subscription "rude": type asyncapi_test.rude: a method that says its schema panics: no values`,
		`publisher "numbers": type map[string]complex128: field {}: complex128 has no JSON`,
		`requester "asks", its answer: type asyncapi_test.withFunc: field call`,
		`an option is nil`, `Version("2.6.0"): choose 3.0.0 or 3.1.0`, `License: the name is empty`,
		`Server(""): the name is empty`, `Server(""): the protocol is empty`, `Server(""): there is no host`,
		`Server("secret"): a host is "host:port"`, `Server("other"): a broker of it is not one of this app: mount it`,
		`Parameters("nobody.*"): no subscription has that pattern`, `Parameters("funcs"): "a" is no name, or stands there twice`, `"b c" is no name`,
		`subscription "funcs": Parameters names 3 wildcards, and the pattern has 0`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say\n%s\nit is\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "hushhush") {
		t.Errorf("the error has a credential: %v", err)
	}
}

// leaky says of its server what it must not.
type leaky struct{ *memory.Broker }

func (leaky) DescribeServer() broker.ServerSpec {
	return broker.ServerSpec{
		Protocol: "leaky", Hosts: []string{"anna:hushhush@a.example:1", "leaky://anna:hush@hush@b.example:2/path?password=hushhush", "c.example/v?p=hushhush"},
		Description: "at leaky://anna:hushhush@a.example:1",
	}
}

func TestDocumentHasNoCredential(t *testing.T) {
	t.Parallel()
	spec := documentOf(t, func(app *gostream.App) []asyncapi.Option {
		app.Mount(leaky{memory.New()})
		return nil
	})
	valid(t, spec)
	data, _ := spec.JSON()
	for _, secret := range []string{"anna", "hush"} {
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("the document has %q:\n%s", secret, data)
		}
	}
	for _, want := range []string{`"a.example:1"`, `"b.example:2"`, `"/path"`, `"c.example"`, `"/v"`, `"at leaky://a.example:1"`} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("the document has no %s:\n%s", want, data)
		}
	}
}

// bare describes nothing.
type bare struct{ b *memory.Broker }

func (b bare) Connect(ctx context.Context) error  { return b.b.Connect(ctx) }
func (b bare) Shutdown(ctx context.Context) error { return b.b.Shutdown(ctx) }

func (b bare) Subscribe(ctx context.Context, name string) (broker.Subscription, error) {
	return b.b.Subscribe(ctx, name)
}

func TestServers(t *testing.T) {
	t.Parallel()
	one, two, none := memory.New(), memory.New(), bare{memory.New()}
	build := func(opts ...asyncapi.Option) map[string][]string {
		t.Helper()
		spec := documentOf(t, func(app *gostream.App) []asyncapi.Option {
			for name, b := range map[string]broker.Broker{"one": one, "two": two, "none": none} {
				r := gostream.NewRouter()
				r.Handle(name, gostream.Consume(take[Tick]))
				app.Mount(b, r)
			}
			return opts
		})
		valid(t, spec)
		var doc struct {
			Servers  map[string]struct{ Host string }
			Channels map[string]struct {
				Servers []struct {
					Ref string `json:"$ref"`
				}
			}
		}
		data, _ := spec.JSON()
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		out := make(map[string][]string)
		for name, ch := range doc.Channels {
			for _, s := range ch.Servers {
				out[name] = append(out[name], doc.Servers[strings.TrimPrefix(s.Ref, "#/servers/")].Host)
			}
		}
		return out
	}
	want := func(got map[string][]string, one, two, none string) {
		t.Helper()
		for name, hosts := range map[string]string{"one": one, "two": two, "none": none} {
			if strings.Join(got[name], " ") != hosts {
				t.Errorf("the channel %s is on %q, want %q", name, got[name], hosts)
			}
		}
	}
	want(build(), "in-process", "in-process", "unspecified")
	want(build(asyncapi.Server("all", broker.ServerSpec{Protocol: "memory", Hosts: []string{"a", "b"}})), "a b", "a b", "unspecified")
	want(build(
		asyncapi.Server("all", broker.ServerSpec{Protocol: "memory", Hosts: []string{"a"}}),
		asyncapi.Server("two", broker.ServerSpec{Protocol: "memory", Hosts: []string{"b"}}, two),
		asyncapi.Server("none", broker.ServerSpec{Protocol: "own", Hosts: []string{"c"}}, none),
	), "a", "b", "c")
}

// Keys do not depend on what else the app has, but for what would have the same.
func TestKeysAreStable(t *testing.T) {
	t.Parallel()
	keys := func(names ...string) string {
		t.Helper()
		spec := documentOf(t, func(app *gostream.App) []asyncapi.Option {
			r := gostream.NewRouter()
			for _, name := range names {
				r.Handle(name, gostream.Consume(take[Tick]))
			}
			app.Mount(memory.New(), r)
			return nil
		})
		valid(t, spec)
		var doc struct {
			Channels map[string]struct{ Address string }
		}
		data, _ := spec.JSON()
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		byName := make(map[string]string)
		for k, ch := range doc.Channels {
			byName[ch.Address] = k
		}
		var out []string
		for _, name := range names {
			out = append(out, name+"="+byName[name])
		}
		return strings.Join(out, " ")
	}
	for _, tt := range []struct{ names, want string }{
		{"a/b c", "a/b=a_b c=c"},
		{"a_b a/b", "a_b=a_b a/b=a_b-memory"},
		{"a/b a_b", "a/b=a_b-memory a_b=a_b"},
		{"a/b a+b", "a/b=a_b-66576807 a+b=a_b-961a5bac"},
		{"a+b a/b", "a+b=a_b-961a5bac a/b=a_b-66576807"},
	} {
		if got := keys(strings.Fields(tt.names)...); got != tt.want {
			t.Errorf("%s, want %s", got, tt.want)
		}
	}
}

// Types of functions have one name and one package.
func TestTypesOfOneName(t *testing.T) {
	t.Parallel()
	type local struct{ A int }
	outer := gostream.Consume(take[local])
	inner := func() gostream.Handler {
		type local struct{ B string }
		return gostream.Consume(take[local])
	}()
	spec := documentOf(t, func(app *gostream.App) []asyncapi.Option {
		r := gostream.NewRouter()
		r.Handle("outer", outer)
		r.Handle("inner", inner)
		app.Mount(memory.New(), r)
		return nil
	})
	valid(t, spec)
	schemas := schemasOf(t, spec)
	if len(schemas) != 2 {
		t.Errorf("%d schemas, want 2: %v", len(schemas), schemas)
	}
}

func schemasOf(t *testing.T, spec *asyncapi.Spec) map[string]json.RawMessage {
	t.Helper()
	var doc struct {
		Components struct{ Schemas map[string]json.RawMessage }
	}
	data, err := spec.JSON()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	return doc.Components.Schemas
}

type (
	inside struct {
		ID   int `json:"id"`
		Kind int `json:"kind"`
		Same int
		Deep string `json:"deep"`
	}
	alike struct{ Same string }
	// outside has fields that encoding/json takes, leaves out, and takes from elsewhere.
	outside struct {
		inside
		alike
		Kind  string `json:"kind"` // not that of inside
		hides bool
		Ptr   *int     `json:",omitempty"`
		Text  *int     `json:"text,string"`
		Own   encoded  `json:"own"`
		Texts texting  `json:"texts"`
		Array [2]*bool `json:"array"`
		_     struct{} `title:"The outside"`
	}
	encoded struct{ Hidden int }
	texting struct{ Hidden int }
	// embedding has the methods of a type that says its name.
	embedding struct {
		Receipt
		More int
	}
)

func (encoded) MarshalJSON() ([]byte, error) { return []byte(`"x"`), nil }
func (texting) MarshalText() ([]byte, error) { return nil, nil }

// The fields are those that encoding/json writes.
func TestFields(t *testing.T) {
	t.Parallel()
	spec := documentOf(t, mounting(gostream.Consume(take[outside])))
	valid(t, spec)
	var got struct {
		Title      string
		Properties map[string]json.RawMessage
	}
	if err := json.Unmarshal(schemasOf(t, spec)["outside"], &got); err != nil {
		t.Fatal(err)
	}
	one := 1
	written, err := json.Marshal(outside{Ptr: &one, hides: true})
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]json.RawMessage
	if err := json.Unmarshal(written, &want); err != nil {
		t.Fatal(err)
	}
	for name := range want {
		if _, ok := got.Properties[name]; !ok {
			t.Errorf("the schema has no field %s", name)
		}
	}
	for name := range got.Properties {
		if _, ok := want[name]; !ok {
			t.Errorf("the schema has a field %s, which is never written", name)
		}
	}
	flat := func(b []byte) string {
		return strings.Join(strings.Fields(string(b)), "")
	}
	for name, schema := range map[string]string{
		"kind": `{"type":"string"}`, "text": `{"type":["string","null"]}`, "texts": `{"type":"string"}`,
		"array": `{"type":"array","items":{"type":["null","boolean"]}}`, "own": `{"$ref":"#/components/schemas/encoded"}`,
	} {
		if flat(got.Properties[name]) != schema {
			t.Errorf("the schema of %s is %s, want %s", name, flat(got.Properties[name]), schema)
		}
	}
	if s := flat(schemasOf(t, spec)["encoded"]); s != "{}" {
		t.Errorf("the schema of a type that encodes itself is %s", s)
	}
	if got.Title != "The outside" {
		t.Errorf("the title is %q", got.Title)
	}
}

// A name belongs to the type that says it, and not to those that embed it.
func TestOwnNames(t *testing.T) {
	t.Parallel()
	spec := documentOf(t, mounting(gostream.Reply(reply[embedding, *Receipt]).To("out")))
	valid(t, spec)
	schemas := schemasOf(t, spec)
	if _, ok := schemas["embedding"]; !ok {
		t.Errorf("a type that embeds is not called by its own name: %v", schemas)
	}
	if _, ok := schemas["Proof_of_payment"]; !ok {
		t.Errorf("a type is not called what it says: %v", schemas)
	}
}

// Where publishers are made while the app runs, the document is the same in the end.
func TestDocumentOfRunningApp(t *testing.T) {
	t.Parallel()
	app := gostream.New("shop", "1.0.0", gostream.WithLogger(slog.New(slog.DiscardHandler)))
	b := memory.New()
	r := gostream.NewRouter()
	r.Handle("in", gostream.Consume(take[Order]))
	app.Mount(b, r)
	document := func() []byte {
		t.Helper()
		d, err := app.Describe()
		if err != nil {
			t.Fatal(err)
		}
		spec, err := asyncapi.Document(d)
		if err != nil {
			t.Fatal(err)
		}
		data, _ := spec.JSON()
		return data
	}
	before := document()
	s, err := app.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if while := document(); !bytes.Equal(while, before) {
		t.Errorf("while it runs the document is\n%s\nbefore it was\n%s", while, before)
	}
	done := make(chan struct{})
	for _, name := range []string{"x", "y", "z"} {
		go func() {
			defer func() { done <- struct{}{} }()
			gostream.NewPublisher[Tick](app, b, name)
		}()
	}
	for range 3 {
		<-done
	}
	after := document()
	other := documentOf(t, func(app *gostream.App) []asyncapi.Option {
		b, r := memory.New(), gostream.NewRouter()
		for _, name := range []string{"z", "x", "y"} {
			gostream.NewPublisher[Tick](app, b, name)
		}
		r.Handle("in", gostream.Consume(take[Order]))
		app.Mount(b, r)
		return nil
	})
	if data, _ := other.JSON(); !bytes.Equal(data, after) {
		t.Errorf("in another order the document is\n%s\nwant\n%s", data, after)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
