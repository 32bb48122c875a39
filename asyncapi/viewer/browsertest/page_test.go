package browsertest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"image/png"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

var screenshot = flag.String("screenshot", "", "the file that TestScreenshot writes")

// quickstart loads the document of examples/quickstart.
func quickstart(context.Context) ([]byte, error) {
	return os.ReadFile(filepath.Join("..", "testdata", "quickstart.json"))
}

// The page shows what there is in a document, with the network off: channels, operations,
// messages, and the fields of schemas.
func TestDocuments(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.json")
	if err != nil {
		t.Fatal(err)
	}
	golden, err := filepath.Glob("../../testdata/golden/*.json") // what package asyncapi makes
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, golden...)
	if len(files) == 0 {
		t.Fatal("there is no document")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			d := outlineOf(t, data)
			b := open(t, func(context.Context) ([]byte, error) { return data, nil })
			b.shows(t, "body", d.everywhere...)
			if message := evaluate[string](t, b, `document.getElementById("message").innerText`); message != "" {
				t.Errorf("the page has the message %q", message)
			}
			if title := evaluate[string](t, b, "document.title"); title != d.title+" – AsyncAPI" {
				t.Errorf("the title is %q", title)
			}
			if len(d.schemas) > 0 {
				// As who reads them opens them.
				b.expand(t, "schemas", 1000)
				b.shows(t, "#schemas", d.schemas...)
			}
			// The component needs nothing that the page's policy forbids, and nobody else.
			if wrong := b.wrong(); wrong != nil {
				t.Errorf("the browser reports %q", wrong)
			}
			if left := b.left(); left != nil {
				t.Errorf("others were asked: %q", left)
			}
			if n := b.requests(); n < 6 {
				t.Errorf("%d requests were seen, want at least those of the page", n)
			}
		})
	}
}

// What the page shows of the quickstart, in words.
func TestQuickstart(t *testing.T) {
	b := open(t, quickstart)
	b.shows(t, "#operations", "RECEIVE orders", "SEND confirmations", "RECEIVE orders.dead", "orders.reply",
		"Order", "Confirmation", "placed_at", "unit_price", "order_id") // the fields: in examples
	b.expand(t, "schemas", 3)
	b.shows(t, "#schemas", "Order", "customer String", "items", "sku String", "quantity Integer", "placed_at String", "format: date-time")
}

// An outline is what a document must have on its page.
type outline struct {
	title               string
	everywhere, schemas []string
}

func outlineOf(t *testing.T, data []byte) outline {
	t.Helper()
	var d struct {
		Info       struct{ Title string }
		Channels   map[string]struct{ Address string }
		Operations map[string]struct {
			Channel struct {
				Ref string `json:"$ref"`
			}
		}
		Components struct {
			Messages map[string]struct{ Name string }
			Schemas  map[string]struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	o := outline{title: d.Info.Title, everywhere: []string{d.Info.Title}}
	for id, operation := range d.Operations {
		// A channel is shown with its operations.
		channel := strings.NewReplacer("~1", "/", "~0", "~").Replace(strings.TrimPrefix(operation.Channel.Ref, "#/channels/"))
		o.everywhere = append(o.everywhere, id, d.Channels[channel].Address)
	}
	for _, m := range d.Components.Messages {
		o.everywhere = append(o.everywhere, m.Name)
	}
	for name, schema := range d.Components.Schemas {
		o.schemas = append(o.schemas, name)
		o.schemas = slices.AppendSeq(o.schemas, maps.Keys(schema.Properties))
	}
	return o
}

// Whatever a document says, nothing of it is run, and nobody else is asked.
func TestHostileDocument(t *testing.T) {
	var asked atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(elsewhere.Close)
	hostile := "read this" +
		" <img src=x onerror=\"window.run=1\"> <script>window.run=2</script> <svg onload=\"window.run=3\"></svg>" +
		" <iframe srcdoc=\"<script>parent.run=4</script>\"></iframe> <a href=\"javascript:window.run=5\">a link</a>" +
		" [another](javascript:window.run=6) <form action=\"" + elsewhere.URL + "\"><button>a button</button></form>" +
		" <style>body{background:url(" + elsewhere.URL + "/style)}</style> <link rel=stylesheet href=\"" + elsewhere.URL + "/link\">" +
		" <base href=\"" + elsewhere.URL + "\"> <meta http-equiv=refresh content=\"0;url=" + elsewhere.URL + "/meta\">" +
		" <script src=\"" + elsewhere.URL + "/script\"></script> ![a picture](" + elsewhere.URL + "/picture)"
	document := map[string]any{
		"asyncapi": "3.0.0",
		"info": map[string]any{
			"title": "title" + hostile, "version": "1" + hostile, "description": hostile,
			"termsOfService": "javascript:window.run=7",
			"contact":        map[string]any{"name": hostile, "url": "javascript:window.run=8"},
			"license":        map[string]any{"name": hostile, "url": "javascript:window.run=9"},
			"externalDocs":   map[string]any{"description": hostile, "url": "javascript:window.run=10"},
			"tags":           []any{map[string]any{"name": "tag" + hostile, "description": hostile}},
		},
		"servers": map[string]any{"main": map[string]any{"host": "host", "protocol": "memory", "description": hostile}},
		"channels": map[string]any{"orders": map[string]any{
			"address": "orders" + hostile, "description": hostile,
			"messages": map[string]any{"Order": map[string]any{
				"name": "name" + hostile, "title": hostile, "summary": hostile, "description": hostile,
				"payload": map[string]any{
					"type": "object", "description": hostile,
					"properties": map[string]any{hostile: map[string]any{
						"type": "string", "description": hostile, "enum": []any{hostile}, "default": hostile, "pattern": "x",
					}},
				},
				"examples": []any{map[string]any{"name": hostile, "summary": hostile, "payload": map[string]any{hostile: hostile}}},
			}},
		}},
		"operations": map[string]any{"receive": map[string]any{
			"action": "receive", "channel": map[string]any{"$ref": "#/channels/orders"}, "summary": hostile, "description": hostile,
		}},
	}
	b := open(t, func(context.Context) ([]byte, error) { return json.Marshal(document) })
	b.shows(t, "body", "read this", "RECEIVE")
	evaluate[int](t, b, `[...document.querySelectorAll("#document button")].map((b) => b.click()).length`)
	// A link of the document that leads into a script does nothing, not even when clicked.
	if n := evaluate[int](t, b, `[...document.querySelectorAll("a[href^='javascript:']")].map((a) => { a.removeAttribute("target"); a.click(); }).length`); n == 0 {
		t.Error("no link leads into a script: this test has lost its purpose")
	}
	// The page's policy alone would hold, too: a handler in HTML that nobody has cleaned.
	evaluate[bool](t, b, `addEventListener("securitypolicyviolation", (e) => { if (e.effectiveDirective === "script-src-attr") window.refused = true; }),
		document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.run=11'>"), true`)
	b.wait(t, "window.refused === true")
	if run := evaluate[int](t, b, "window.run ?? 0"); run != 0 {
		t.Errorf("script %d of the document was run", run)
	}
	if left := b.left(); left != nil {
		t.Errorf("others were asked: %q", left)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("another server was asked %d times", n)
	}
	if at := evaluate[string](t, b, "location.href"); at != page() {
		t.Errorf("the page has gone to %s", at)
	}
}

// What cannot be shown is said.
func TestMessages(t *testing.T) {
	const invalid = "There are errors in your Asyncapi document"
	for _, tt := range []struct {
		name, document string
		err            error
		want           []string
	}{
		{"load fails", "", errors.New("orders has <b>no</b> type; nats://me:s3cret@host"), []string{
			"The document could not be loaded", "orders has <b>no</b> type; nats://…@host",
		}},
		{"no JSON", `{"asyncapi": "3.0.0",`, nil, []string{"The document is not JSON"}},
		{"empty", "", nil, []string{"The document is not JSON"}},
		{"null", "null", nil, []string{"This is no AsyncAPI document"}},
		{"another kind", `{"openapi":"3.0.0"}`, nil, []string{"This is no AsyncAPI document"}},
		{"another version", `{"asyncapi":"9.9.9"}`, nil, []string{invalid, `Version "9.9.9" is not supported`}},
		{"incomplete", `{"asyncapi":"3.0.0"}`, nil, []string{invalid, `must have required property "info"`}},
		{"dangling", minimal("#/components/channels/c"), nil, []string{invalid, "does not exist"}},
		{"remote", minimal("https://remote.invalid/c"), nil, []string{
			"This page follows no reference out of the document:\nhttps://remote.invalid/c",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, func(context.Context) ([]byte, error) { return []byte(tt.document), tt.err })
			text := b.text(t)
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not say %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "Loading") {
				t.Errorf("the page still says that it loads:\n%s", text)
			}
			if left := b.left(); left != nil {
				t.Errorf("others were asked: %q", left)
			}
		})
	}
}

// minimal is a document with one channel, which is a reference.
func minimal(reference string) string {
	return `{"asyncapi":"3.0.0","info":{"title":"x","version":"1"},"channels":{"c":{"$ref":"` + reference + `"}}}`
}

// The picture for the documentation, and with it that the page can be looked at.
func TestScreenshot(t *testing.T) {
	b := open(t, quickstart)
	// An operation, its payload opened, its example beside it.
	b.wait(t, `document.querySelector(".container\\:base") !== null`)
	b.expand(t, "operations", 1)
	evaluate[bool](t, b, `document.getElementById("operation-receive-orders.receive").scrollIntoView(), scrollBy(0, -24), true`)
	data, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if got := picture.Bounds().Dx(); got != 1280 {
		t.Errorf("the picture is %d px wide", got)
	}
	if len(data) > 200_000 {
		t.Errorf("the picture has %d bytes", len(data))
	}
	if *screenshot != "" {
		if err := os.WriteFile(*screenshot, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
