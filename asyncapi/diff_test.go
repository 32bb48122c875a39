package asyncapi_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/memory"
)

func parse(t testing.TB, text string) *asyncapi.Spec {
	t.Helper()
	spec, err := asyncapi.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return spec
}

// around is a document in which the app receives the payload on one channel and sends it on
// another.
const around = `
asyncapi: 3.0.0
info: {title: shop, version: 1.0.0}
servers:
  main: {host: a, protocol: kafka}
channels:
  in: {address: in, messages: {M: {$ref: '#/components/messages/M'}}}
  out: {address: out, messages: {M: {$ref: '#/components/messages/M'}}}
operations:
  take: {action: receive, channel: {$ref: '#/channels/in'}, messages: [{$ref: '#/channels/in/messages/M'}]}
  give: {action: send, channel: {$ref: '#/channels/out'}}
components:
  messages:
    M: {contentType: application/json, payload: PAYLOAD}
  schemas:
    Money: {type: object, properties: {cents: {type: integer}}}
    Other: {type: object, properties: {cents: {type: string}}}
    Tree: {type: object, properties: {left: {$ref: '#/components/schemas/Tree'}, value: VALUE}}
`

func payload(t testing.TB, text, value string) *asyncapi.Spec {
	if value == "" {
		value = "{type: string}"
	}
	return parse(t, strings.NewReplacer("PAYLOAD", text, "VALUE", value).Replace(around))
}

// schemaCase is a change of a schema; what the app receives and sends may break or not.
type schemaCase struct {
	rule, name, old, new string
	receive, send        string // "breaks", "fine", or "" for no such change
}

var schemaCases = []schemaCase{
	{"field-added", "an optional field", `{properties: {a: {}}}`, `{properties: {a: {}, b: {}}}`, "fine", "fine"},
	{"field-added", "where there were to be no others", `{additionalProperties: false, properties: {a: {}}}`, `{additionalProperties: false, properties: {a: {}, b: {}}}`, "fine", "breaks"},
	{"field-added-required", "", `{properties: {a: {}}}`, `{required: [b], properties: {a: {}, b: {}}}`, "breaks", ""},
	{"field-added", "a required field", `{properties: {a: {}}}`, `{required: [b], properties: {a: {}, b: {}}}`, "", "fine"},
	{"field-removed", "", `{properties: {a: {}, b: {}}}`, `{properties: {a: {}}}`, "fine", "breaks"},
	{"field-removed", "a required one", `{required: [b], properties: {a: {}, b: {}}}`, `{properties: {a: {}}}`, "fine", "breaks"},
	{"field-removed", "where others are refused", `{additionalProperties: false, properties: {a: {}, b: {}}}`, `{additionalProperties: false, properties: {a: {}}}`, "breaks", "breaks"},
	{"field-required", "", `{properties: {a: {}}}`, `{required: [a], properties: {a: {}}}`, "breaks", "fine"},
	{"field-required", "without a schema of its own", `{properties: {a: {}}}`, `{required: [b], properties: {a: {}}}`, "breaks", "fine"},
	{"field-optional", "", `{required: [a], properties: {a: {}}}`, `{properties: {a: {}}}`, "fine", "breaks"},
	{"type", "another", `{properties: {a: {type: string}}}`, `{properties: {a: {type: integer}}}`, "breaks", "breaks"},
	{"type", "narrowed", `{type: [string, "null"]}`, `{type: string}`, "breaks", "fine"},
	{"type", "widened", `{type: string}`, `{type: [string, "null"]}`, "fine", "breaks"},
	{"type", "narrowed and widened", `{type: [string, boolean]}`, `{type: [string, integer]}`, "breaks", "breaks"},
	{"type", "a number for an integer", `{type: integer}`, `{type: number}`, "fine", "breaks"},
	{"type", "an integer for a number", `{type: number}`, `{type: integer}`, "breaks", "fine"},
	{"type", "any before", `{}`, `{type: string}`, "breaks", "fine"},
	{"type", "any now", `{type: string}`, `{}`, "fine", "breaks"},
	{"type", "of items", `{type: array, items: {type: string}}`, `{type: array, items: {type: integer}}`, "breaks", "breaks"},
	{"type", "of values", `{additionalProperties: {type: string}}`, `{additionalProperties: {type: integer}}`, "breaks", "breaks"},
	{"type", "nothing fits", `{properties: {a: true}}`, `{properties: {a: false}}`, "breaks", "fine"},
	{"type", "or null", `{type: string}`, `{anyOf: [{type: "null"}, {type: string}]}`, "fine", "breaks"},
	{"type", "null no more", `{oneOf: [{$ref: '#/components/schemas/Money'}, {type: "null"}]}`, `{$ref: '#/components/schemas/Money'}`, "breaks", "fine"},
	{"field-added", "where null fits", `{anyOf: [{type: "null"}, {properties: {a: {}}, type: object}]}`, `{oneOf: [{properties: {a: {}, b: {}}, type: object}, {type: "null"}]}`, "fine", "fine"},
	{"type", "nothing fits the second", `{properties: {a: true, b: true}}`, `{properties: {a: true, b: false}}`, "breaks", "fine"},
	{"type", "something fits", `{properties: {a: false}}`, `{properties: {a: {}}}`, "fine", "breaks"},
	{"enum", "fewer", `{enum: [a, b]}`, `{enum: [a]}`, "breaks", "fine"},
	{"enum", "more", `{enum: [a]}`, `{enum: [a, b]}`, "fine", "breaks"},
	{"enum", "a list now", `{type: string}`, `{type: string, enum: [a]}`, "breaks", "fine"},
	{"enum", "no list now", `{type: string, enum: [a]}`, `{type: string}`, "fine", "breaks"},
	{"enum", "a constant", `{enum: [a, b]}`, `{const: a}`, "breaks", "fine"},
	{"bound", "raised minimum", `{minimum: 1}`, `{minimum: 2}`, "breaks", "fine"},
	{"bound", "lowered minimum", `{minimum: 2}`, `{minimum: 1.5}`, "fine", "breaks"},
	{"bound", "lowered maximum", `{maxLength: 10}`, `{maxLength: 9}`, "breaks", "fine"},
	{"bound", "a new one", `{}`, `{maxItems: 9}`, "breaks", "fine"},
	{"bound", "one less", `{maxItems: 9}`, `{}`, "fine", "breaks"},
	{"bound", "items that differ", `{}`, `{uniqueItems: true}`, "breaks", "fine"},
	{"format", "a pattern", `{type: string}`, `{type: string, pattern: ^a}`, "breaks", "fine"},
	{"format", "another pattern", `{type: string, pattern: ^b}`, `{type: string, pattern: ^a}`, "breaks", "breaks"},
	{"format", "no format", `{type: string, format: date}`, `{type: string}`, "fine", "breaks"},
	{"format", "a smaller number", `{type: integer, format: int64}`, `{type: integer, format: int32}`, "breaks", "fine"},
	{"format", "a larger number", `{type: number, format: float}`, `{type: number, format: double}`, "fine", "breaks"},
	{"type", "of a field that had no name", `{additionalProperties: {type: string}}`, `{additionalProperties: {type: string}, properties: {b: {type: integer}}}`, "breaks", "breaks"},
	{"type", "of a field without a name now", `{additionalProperties: {type: string}, properties: {b: {type: integer}}}`, `{additionalProperties: {type: string}}`, "breaks", "breaks"},
	{"bound", "an int64 for a uint16", `{type: integer, minimum: 0, maximum: 65535}`, `{type: integer, format: int64}`, "fine", "breaks"},
	{"bound", "a uint16 for an int64", `{type: integer, format: int64}`, `{type: integer, minimum: 0, maximum: 65535}`, "breaks", "fine"},
	{"format", "an int32 for a uint32", `{type: integer, minimum: 0, maximum: 4294967295}`, `{type: integer, minimum: 0, maximum: 4294967295, format: int32}`, "breaks", "fine"},
	{"other-fields", "refused", `{properties: {a: {}}}`, `{properties: {a: {}}, additionalProperties: false}`, "breaks", "fine"},
	{"other-fields", "accepted", `{properties: {a: {}}, additionalProperties: false}`, `{properties: {a: {}}}`, "fine", "breaks"},
	{"alternatives", "one less", `{oneOf: [{type: string}, {type: integer}]}`, `{oneOf: [{type: string}]}`, "breaks", "fine"},
	{"alternatives", "one more", `{anyOf: [{type: string}]}`, `{anyOf: [{type: string}, {type: integer}]}`, "fine", "breaks"},
	{"alternatives", "now", `{}`, `{anyOf: [{type: string}]}`, "breaks", "fine"},
	{"alternatives", "no more", `{anyOf: [{type: string}]}`, `{}`, "fine", "breaks"},
	{"type", "of an alternative", `{oneOf: [{type: string}, {$ref: '#/components/schemas/Money'}]}`, `{oneOf: [{type: string}, {$ref: '#/components/schemas/Other'}]}`, "breaks", "breaks"},
	{"schema", "not", `{not: {type: string}}`, `{not: {type: integer}}`, "breaks", "breaks"},
	{"schema", "allOf now", `{}`, `{allOf: [{type: string}]}`, "breaks", "fine"},
	{"schema", "no allOf now", `{allOf: [{type: string}]}`, `{}`, "fine", "breaks"},
	{"schema", "items one by one", `{items: [{type: string}]}`, `{items: [{type: integer}]}`, "breaks", "breaks"},
	{"reference", "", `{$ref: 'other.yaml#/A'}`, `{$ref: 'other.yaml#/B'}`, "breaks", "breaks"},
	{"type", "behind a reference", `{properties: {m: {$ref: '#/components/schemas/Money'}}}`, `{properties: {m: {$ref: '#/components/schemas/Other'}}}`, "breaks", "breaks"},
	{"description", "", `{description: a}`, `{description: b}`, "fine", "fine"},
}

func TestDiffSchemas(t *testing.T) {
	t.Parallel()
	for _, tt := range schemaCases {
		t.Run(tt.rule+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			changes := asyncapi.Diff(payload(t, tt.old, ""), payload(t, tt.new, ""))
			for operation, want := range map[string]string{"take": tt.receive, "give": tt.send} {
				got := ""
				for _, c := range changes.List {
					if !strings.HasPrefix(c.Where, "operation "+operation+",") {
						continue
					}
					if c.Rule == tt.rule {
						got = map[bool]string{true: "breaks", false: "fine"}[c.Breaking]
					} else if want != "" && !strings.HasPrefix(c.Rule, "field-") {
						t.Errorf("beside it there is %v", c)
					}
				}
				if got != want {
					t.Errorf("operation %s: %q, want %q; all changes:\n%s", operation, got, want, changes)
				}
			}
		})
	}
}

// A schema that holds itself is compared once.
func TestDiffRecursive(t *testing.T) {
	t.Parallel()
	tree := `{$ref: '#/components/schemas/Tree'}`
	changes := asyncapi.Diff(payload(t, tree, "{type: string}"), payload(t, tree, "{type: integer}"))
	want := []asyncapi.Change{
		{Breaking: true, Rule: "type", Where: "operation give, message M, field value", What: `its type is "integer"; it was "string"`},
		{Breaking: true, Rule: "type", Where: "operation take, message M, field value", What: `its type is "integer"; it was "string"`},
	}
	if !slices.Equal(changes.List, want) {
		t.Errorf("%s", changes)
	}
	// The same type, one level unrolled.
	unrolled := `{type: object, properties: {left: {$ref: '#/components/schemas/Tree'}, value: {type: string}}}`
	if changes := asyncapi.Diff(payload(t, tree, ""), payload(t, unrolled, "")); len(changes.List) > 0 {
		t.Errorf("unrolled: %s", changes)
	}
}

// What is the same change of one place is told once.
func TestDiffTellsOnce(t *testing.T) {
	t.Parallel()
	changes := asyncapi.Diff(payload(t, `{oneOf: [{type: string}, {type: integer}, {type: boolean}]}`, ""), payload(t, `{oneOf: [{type: string}]}`, ""))
	if len(changes.List) != 2 { // received, sent
		t.Errorf("%s", changes)
	}
}

// documentCase is a change of something else: old is replaced by new in base.
type documentCase struct {
	rule, name, old, new string
	breaking             bool
}

const base = `
asyncapi: 3.0.0
info: {title: shop, version: 1.0.0}
servers:
  main: {host: a, protocol: kafka}
  more: {host: b, protocol: nats}
channels:
  orders:
    address: orders.{region}.new
    servers: [{$ref: '#/servers/main'}]
    parameters: {region: {enum: [eu, us]}}
    messages:
      Order: {contentType: application/json, payload: {type: object}}
      Cancel: {contentType: application/json}
    bindings: {kafka: {topic: orders, partitions: 3, bindingVersion: 0.5.0}}
    x-gostream-pattern: ab*
  answers:
    servers: [{$ref: '#/servers/main'}]
    messages: {Answer: {contentType: application/json, payload: {type: string}}}
  confirmations:
    address: confirmations
    servers: [{$ref: '#/servers/main'}]
    messages: {Confirmation: {payload: {type: string}}, Refusal: {payload: {type: string}}}
operations:
  take:
    action: receive
    channel: {$ref: '#/channels/orders'}
    reply:
      address: {location: '$message.header#/reply-to'}
      channel: {$ref: '#/channels/answers'}
    bindings: {kafka: {groupId: shop}}
    x-gostream-failure: {policy: [a], deadLetters: [dead, deader]}
  give: {action: send, channel: {$ref: '#/channels/confirmations'}}
`

var documentCases = []documentCase{
	{"info", "the app's version", "version: 1.0.0", "version: 2.0.0", false},
	{"info", "the version of AsyncAPI", "asyncapi: 3.0.0", "asyncapi: 3.1.0", false},
	{"server", "its host", "host: a", "host: c", false},
	{"server", "removed", "  more: {host: b, protocol: nats}\n", "", false},
	{"server", "added", "  more:", "  most: {host: b, protocol: nats}\n  more:", false},
	{"channel-removed", "", "  confirmations:\n    address: confirmations\n    servers: [{$ref: '#/servers/main'}]\n    messages: {Confirmation: {payload: {type: string}}, Refusal: {payload: {type: string}}}\noperations:", "operations:", true},
	{"channel-added", "", "  confirmations:\n", "  others: {address: others}\n  confirmations:\n", false},
	{"channel-renamed", "", "  answers:", "  replies:", false},
	{"address", "another", "address: orders.{region}.new", "address: orders.{region}.old", true},
	{"address", "not known", "    address: confirmations\n", "", true},
	{"address", "a value less", "enum: [eu, us]", "enum: [eu]", true},
	{"address", "values now", "{enum: [eu, us]}", "{}", false},
	{"address", "another pattern", "ab*", "ac*", true},
	{"address", "another topic", "topic: orders", "topic: others", true},
	{"address", "of the reply", "#/reply-to", "#/answer-to", true},
	{"parameters", "another name", "region", "land", false},
	{"parameters", "a value more", "enum: [eu, us]", "enum: [eu, us, asia]", false},
	{"protocol", "", "servers: [{$ref: '#/servers/main'}]", "servers: [{$ref: '#/servers/more'}]", true},
	{"protocol", "one more", "servers: [{$ref: '#/servers/main'}]", "servers: [{$ref: '#/servers/main'}, {$ref: '#/servers/more'}]", false},
	{"binding", "", "partitions: 3", "partitions: 6", false},
	{"group", "", "groupId: shop", "groupId: other", false},
	{"operation-removed", "", "  give: {action: send, channel: {$ref: '#/channels/confirmations'}}\n", "", true},
	{"operation-added", "", "  give:", "  more: {action: send, channel: {$ref: '#/channels/confirmations'}}\n  give:", false},
	{"action", "", "action: send", "action: receive", true},
	{"message-removed", "received", "      Cancel: {contentType: application/json}\n", "", true},
	{"message-removed", "sent", ", Refusal: {payload: {type: string}}}", "}", true},
	{"message-added", "received", "      Cancel:", "      Undo: {}\n      Cancel:", false},
	{"message-added", "sent", "Refusal: {payload: {type: string}}", "Refusal: {payload: {type: string}}, Other: {}", true},
	{"message-renamed", "", "Refusal", "No", false},
	{"content-type", "", "Cancel: {contentType: application/json}", "Cancel: {contentType: application/cbor}", true},
	{"reply-removed", "", "    reply:\n      address: {location: '$message.header#/reply-to'}\n      channel: {$ref: '#/channels/answers'}\n", "", true},
	{"reply-added", "", "channel: {$ref: '#/channels/confirmations'}}", "channel: {$ref: '#/channels/confirmations'}, reply: {channel: {$ref: '#/channels/answers'}}}", false},
	{"dead-letter", "another", "deadLetters: [dead, deader]", "deadLetters: [dead, other]", true},
	{"dead-letter", "removed", "deadLetters: [dead, deader]", "deadLetters: [dead]", true},
	{"dead-letter-added", "", "deadLetters: [dead, deader]", "deadLetters: [dead, deader, deadest]", false},
	{"failure-policy", "", "policy: [a]", "policy: [b]", false},
}

func TestDiffDocuments(t *testing.T) {
	t.Parallel()
	for _, tt := range documentCases {
		t.Run(tt.rule+" "+tt.name, func(t *testing.T) {
			t.Parallel()
			changed := strings.ReplaceAll(base, tt.old, tt.new)
			if changed == base {
				t.Fatalf("%q is not there", tt.old)
			}
			if tt.rule == "channel-removed" { // with its operation
				changed = changed[:strings.Index(changed, "  give:")]
			}
			if tt.rule == "channel-renamed" {
				changed = strings.ReplaceAll(changed, "channels/answers", "channels/replies")
				changed = strings.ReplaceAll(strings.ReplaceAll(changed, "  confirmations:", "  confirmed:"), "channels/confirmations", "channels/confirmed")
			}
			changes := asyncapi.Diff(parse(t, base), parse(t, changed))
			if tt.rule == "address" && tt.name == "values now" { // from any value to a list
				changes = asyncapi.Diff(parse(t, changed), parse(t, base))
				tt.breaking = true
			}
			found := false
			for _, c := range changes.List {
				if c.Rule != tt.rule {
					continue
				}
				found = true
				if c.Breaking != tt.breaking {
					t.Errorf("%v: breaking is %v", c, c.Breaking)
				}
			}
			if !found || changes.Breaking() != tt.breaking {
				t.Errorf("%s: breaking is %v:\n%s", tt.rule, changes.Breaking(), changes)
			}
		})
	}
}

// A second broker with the same names changes keys, and nothing for others: also that of
// the channel of answers.
func TestDiffOfSecondBroker(t *testing.T) {
	t.Parallel()
	of := func(brokers int) *asyncapi.Spec {
		return documentOf(t, func(app *gostream.App) []asyncapi.Option {
			for i := range brokers {
				b, r := memory.New(), gostream.NewRouter()
				r.Handle("prices", gostream.Reply(reply[string, before]).ToReplyTo(), gostream.Named("prices"+strings.Repeat("-again", i)))
				app.Mount(b, r)
			}
			return nil
		})
	}
	changes := asyncapi.Diff(of(1), of(2))
	renamed := 0
	for _, c := range changes.List {
		if c.Rule == "channel-renamed" {
			renamed++
		}
	}
	if changes.Breaking() || renamed != 2 {
		t.Errorf("%d channels are called something else, want 2:\n%s", renamed, changes)
	}
}

// A type in two encodings that is called something else is not gone.
func TestDiffOfRenamedMessages(t *testing.T) {
	t.Parallel()
	of := func(h gostream.Handler) *asyncapi.Spec {
		return documentOf(t, mounting(h, gostream.Codecs(as("application/cbor"))))
	}
	type another before
	old := of(gostream.Consume(take[before]))
	if c := asyncapi.Diff(old, of(gostream.Consume(take[another]))); c.Breaking() || len(c.List) < 2 || c.List[0].Rule != "message-renamed" {
		t.Errorf("another name: %s", c)
	}
	type other struct {
		ID int `json:"id"`
	}
	if c := asyncapi.Diff(old, of(gostream.Consume(take[other]))); !c.Breaking() {
		t.Errorf("another name and another type: %s", c)
	}
}

// The answers to a request that the app receives are sent by it, and the other way round.
func TestDiffReplies(t *testing.T) {
	t.Parallel()
	narrower := strings.Replace(base, "Answer: {contentType: application/json, payload: {type: string}}", "Answer: {contentType: application/json, payload: {type: string, enum: [a]}}", 1)
	if c := asyncapi.Diff(parse(t, base), parse(t, narrower)); c.Breaking() || len(c.List) != 1 {
		t.Errorf("what is answered is narrowed:\n%s", c)
	}
	if c := asyncapi.Diff(parse(t, narrower), parse(t, base)); !c.Breaking() {
		t.Errorf("what is answered is widened:\n%s", c)
	}
	asks := strings.NewReplacer("action: receive", "action: send")
	if c := asyncapi.Diff(parse(t, asks.Replace(base)), parse(t, asks.Replace(narrower))); !c.Breaking() {
		t.Errorf("what may be answered is narrowed:\n%s", c)
	}
}

// The table of the guide has the rules, each tested here, and no others.
func TestDiffRulesAreDocumented(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../docs/asyncapi.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(guide), "\n## Diff\n")
	if !found {
		t.Fatal("the guide has no section Diff")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	documented := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = true
	}
	tested := make(map[string]bool)
	for _, tt := range schemaCases {
		tested[tt.rule] = true
	}
	for _, tt := range documentCases {
		tested[tt.rule] = true
	}
	used := make(map[string]bool)
	for _, file := range []string{"diff.go", "diff_schema.go"} {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:\.add\([^"]*|\.narrowed\(|\.widened\(|\.changed\()"([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
			used[m[1]] = true
		}
	}
	if len(used) < 20 {
		t.Fatalf("only %d rules were found in the code", len(used))
	}
	for rule := range used {
		if !documented[rule] || !tested[rule] {
			t.Errorf("the rule %s: documented %v, tested %v", rule, documented[rule], tested[rule])
		}
	}
	for rule := range documented {
		if !used[rule] {
			t.Errorf("the guide has the rule %s, the code has not", rule)
		}
	}
}

func TestChangesOutput(t *testing.T) {
	t.Parallel()
	none := asyncapi.Diff(parse(t, base), parse(t, base))
	if none.Breaking() || none.Text() != "no changes\n" || none.String() != none.Text() {
		t.Errorf("no changes: %q", none)
	}
	if data, err := json.Marshal(none); err != nil || string(data) != `{"breaking":false,"changes":[]}` {
		t.Errorf("no changes: %s, %v", data, err)
	}
	changes := asyncapi.Diff(parse(t, base), parse(t, strings.NewReplacer("[dead, deader]", "[deader]", "host: a", "host: b").Replace(base)))
	const text = "breaking: 1\n" +
		"  operation take: no dead letters go to \"dead\" any more [dead-letter]\n" +
		"not breaking: 1\n" +
		"  server main: its host is \"b\"; it was \"a\" [server]\n"
	if changes.Text() != text {
		t.Errorf("the text is\n%s\nwant\n%s", changes.Text(), text)
	}
	const form = `{"breaking":true,"changes":[` +
		`{"breaking":true,"rule":"dead-letter","where":"operation take","what":"no dead letters go to \"dead\" any more"},` +
		`{"breaking":false,"rule":"server","where":"server main","what":"its host is \"b\"; it was \"a\""}]}`
	if data, err := json.Marshal(changes); err != nil || string(data) != form {
		t.Errorf("the JSON is\n%s, %v\nwant\n%s", data, err, form)
	}
	var nothing *asyncapi.Changes
	if nothing.Breaking() || nothing.Text() != "no changes\n" {
		t.Error("a nil *Changes is no changes")
	}
	if c := asyncapi.Diff(nil, nil); len(c.List) != 0 {
		t.Errorf("two documents that are nil: %s", c)
	}
}

// A payload type of an app that changes.
type (
	before struct {
		ID string `json:"id"`
	}
	withOptional struct {
		ID   string `json:"id"`
		Note string `json:"note,omitempty"`
	}
	withRequired struct {
		ID   string `json:"id"`
		Note string `json:"note" required:"true"`
	}
)

func (before) AsyncAPIName() string       { return "Order" }
func (withOptional) AsyncAPIName() string { return "Order" }
func (withRequired) AsyncAPIName() string { return "Order" }

func TestDiffOfApps(t *testing.T) {
	t.Parallel()
	receives := func(h gostream.Handler) *asyncapi.Spec { return documentOf(t, mounting(h)) }
	old := receives(gostream.Consume(take[before]))
	if c := asyncapi.Diff(old, receives(gostream.Consume(take[withOptional]))); c.Breaking() || len(c.List) != 1 || c.List[0].Rule != "field-added" {
		t.Errorf("an optional field: %s", c)
	}
	if c := asyncapi.Diff(old, receives(gostream.Consume(take[withRequired]))); !c.Breaking() {
		t.Errorf("a required field: %s", c)
	}
	if c := asyncapi.Diff(receives(gostream.Consume(take[withRequired])), old); c.Breaking() {
		t.Errorf("a required field less in what is received: %s", c)
	}
	sends := func(h *gostream.ReplyHandler) *asyncapi.Spec { return documentOf(t, mounting(h.To("out"))) }
	if c := asyncapi.Diff(sends(gostream.Reply(reply[before, withRequired])), sends(gostream.Reply(reply[before, before]))); !c.Breaking() {
		t.Errorf("a field less in what is sent: %s", c)
	}
}
