package viewer_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/gostream/gostream/asyncapi/viewer"
)

const document = `{"asyncapi":"3.0.0","info":{"title":"shop","version":"1.0.0"}}`

func newHandler() http.Handler {
	return viewer.Handler(func(context.Context) ([]byte, error) { return []byte(document), nil })
}

// ask sends a request with headers, given as names and values.
func ask(t *testing.T, h http.Handler, method, target string, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

var address = regexp.MustCompile(`(?:href|src)="([^"]*)"`)

// addresses returns what the page refers to.
func addresses(t *testing.T, h http.Handler) []string {
	t.Helper()
	var found []string
	for _, m := range address.FindAllStringSubmatch(body(t, ask(t, h, "GET", "/")), -1) {
		found = append(found, m[1])
	}
	if len(found) < 5 {
		t.Fatalf("the page refers to %q only", found)
	}
	return found
}

func TestPage(t *testing.T) {
	t.Parallel()
	h := newHandler()
	resp := ask(t, h, "GET", "/")
	page := body(t, resp)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/html; charset=utf-8" || resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("the page is %d with %v", resp.StatusCode, resp.Header)
	}
	for _, inline := range []string{`<script(?: [^>]*)?>[^<]`, `(?i)\son[a-z]+=`, `<style`, `style=`, `\{\{`, `//`} {
		if found := regexp.MustCompile(inline).FindString(page); found != "" {
			t.Errorf("the page has %q:\n%s", found, page)
		}
	}
	for _, at := range addresses(t, h) {
		if strings.HasPrefix(at, "/") {
			t.Errorf("%s is no relative address", at)
		}
		if resp := ask(t, h, "GET", "/"+at); resp.StatusCode != 200 {
			t.Errorf("%s is %d", at, resp.StatusCode)
		}
	}
}

// What every answer has, whatever it is.
func TestSecurityHeaders(t *testing.T) {
	t.Parallel()
	h := newHandler()
	targets := []string{"/", "/asyncapi.json", "/licenses.txt", "/nothing"}
	for _, at := range addresses(t, h) {
		targets = append(targets, "/"+at)
	}
	for _, method := range []string{"GET", "HEAD", "POST"} {
		for _, target := range targets {
			header := ask(t, h, method, target).Header
			for name, want := range map[string]string{
				"Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
					"frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
				"X-Content-Type-Options":       "nosniff",
				"Referrer-Policy":              "no-referrer",
				"Cross-Origin-Resource-Policy": "same-origin",
			} {
				if got := header.Values(name); len(got) != 1 || got[0] != want {
					t.Errorf("%s %s: %s is %q", method, target, name, got)
				}
			}
		}
	}
}

// An asset comes as it is stored, or unpacked, is the same in both ways, and is kept.
func TestAssets(t *testing.T) {
	t.Parallel()
	h := newHandler()
	packed := 0
	for _, at := range addresses(t, h) {
		if !strings.HasPrefix(at, "assets/") {
			continue
		}
		want := map[string]string{
			".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
		}[path.Ext(at)]
		plain, zipped := ask(t, h, "GET", "/"+at), ask(t, h, "GET", "/"+at, "Accept-Encoding", "br, gzip")
		for _, resp := range []*http.Response{plain, zipped} {
			if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != want {
				t.Errorf("%s is %d with %v", at, resp.StatusCode, resp.Header)
			}
			if got := resp.Header.Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("%s: Cache-Control is %q", at, got)
			}
		}
		if got := plain.Header.Get("Content-Encoding"); got != "" {
			t.Errorf("%s: for a client that takes no gzip the encoding is %q", at, got)
		}
		text, stored := body(t, plain), body(t, zipped)
		if zipped.Header.Get("Content-Encoding") == "gzip" {
			packed++
			z, err := gzip.NewReader(strings.NewReader(stored))
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			unpacked, err := io.ReadAll(z)
			if err != nil {
				t.Fatalf("%s: %v", at, err)
			}
			stored = string(unpacked)
			if a, b := plain.Header.Get("ETag"), zipped.Header.Get("ETag"); a == b {
				t.Errorf("%s: both forms have the tag %s", at, a)
			}
			for _, resp := range []*http.Response{plain, zipped} {
				if got := resp.Header.Get("Vary"); got != "Accept-Encoding" {
					t.Errorf("%s: Vary is %q", at, got)
				}
			}
		}
		if text != stored || text == "" {
			t.Errorf("%s: the two forms differ", at)
		}
	}
	if packed != 2 {
		t.Errorf("%d assets came packed, want the script and the style of the component", packed)
	}
}

func TestNotModified(t *testing.T) {
	t.Parallel()
	h := newHandler()
	for _, at := range append(addresses(t, h), "", "asyncapi.json", "licenses.txt") {
		for _, accept := range []string{"", "gzip"} {
			tag := ask(t, h, "GET", "/"+at, "Accept-Encoding", accept).Header.Get("ETag")
			if len(tag) < 10 {
				t.Errorf("%q has the tag %q", at, tag)
			}
			resp := ask(t, h, "GET", "/"+at, "Accept-Encoding", accept, "If-None-Match", tag)
			if got := body(t, resp); resp.StatusCode != 304 || got != "" {
				t.Errorf("%q, known as %s, is %d with %d bytes", at, tag, resp.StatusCode, len(got))
			}
			if resp := ask(t, h, "GET", "/"+at, "Accept-Encoding", accept, "If-None-Match", `"another"`); resp.StatusCode != 200 {
				t.Errorf("%q, known as another, is %d", at, resp.StatusCode)
			}
		}
	}
}

func TestMethods(t *testing.T) {
	t.Parallel()
	h := newHandler()
	for _, target := range []string{"/", "/asyncapi.json", "/licenses.txt"} {
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			if resp := ask(t, h, method, target); resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s is %d with Allow %q", method, target, resp.StatusCode, resp.Header.Get("Allow"))
			}
		}
		get, head := ask(t, h, "GET", target), ask(t, h, "HEAD", target)
		if got := body(t, head); head.StatusCode != 200 || got != "" || head.Header.Get("ETag") != get.Header.Get("ETag") {
			t.Errorf("HEAD %s is %d with %d bytes and %v", target, head.StatusCode, len(got), head.Header)
		}
	}
	for _, target := range []string{"/nothing", "/assets/", "/assets/component.js", "/index.html", "/page/app.js", "//", "/../viewer.go"} {
		if resp := ask(t, h, "GET", target); resp.StatusCode != 404 {
			t.Errorf("%s is %d", target, resp.StatusCode)
		}
	}
}

type contextKey struct{}

// The document is loaded anew for each request, with the request's context.
func TestDocument(t *testing.T) {
	t.Parallel()
	calls := 0
	h := viewer.Handler(func(ctx context.Context) ([]byte, error) {
		calls++
		if ctx.Value(contextKey{}) != "the request's" {
			t.Error("load was called with another context")
		}
		return bytes.Repeat([]byte(" "), calls), nil
	})
	tags := make(map[string]bool)
	for i := range 3 {
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), contextKey{}, "the request's"), "GET", "/asyncapi.json", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 200 || w.Body.Len() != i+1 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("request %d: %d, %q, %v", i+1, w.Code, w.Body, w.Header())
		}
		tags[w.Header().Get("ETag")] = true
	}
	if calls != 3 || len(tags) != 3 {
		t.Errorf("%d calls, %d tags, want 3", calls, len(tags))
	}
	if got := body(t, ask(t, newHandler(), "GET", "/asyncapi.json")); got != document {
		t.Errorf("the document is %s", got)
	}
}

func TestLoadFails(t *testing.T) {
	t.Parallel()
	h := viewer.Handler(func(context.Context) ([]byte, error) {
		return nil, errors.New("asyncapi: channel orders: dial nats://me:s3cret@127.0.0.1:4222: refused")
	})
	for _, tt := range []struct {
		h    http.Handler
		want string
	}{
		{h, "asyncapi: channel orders: dial nats://…@127.0.0.1:4222: refused\n"},
		{viewer.Handler(nil), "viewer: the handler was made without a function that loads the document\n"},
	} {
		resp := ask(t, tt.h, "GET", "/asyncapi.json")
		if got := body(t, resp); resp.StatusCode != 500 || got != tt.want {
			t.Errorf("it is %d: %q, want %q", resp.StatusCode, got, tt.want)
		}
		if resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || resp.Header.Get("ETag") != "" {
			t.Errorf("the headers are %v", resp.Header)
		}
		if resp := ask(t, tt.h, "GET", "/"); resp.StatusCode != 200 {
			t.Errorf("the page is %d", resp.StatusCode)
		}
	}
}

// Below a prefix; without the slash behind it the client is sent on.
func TestPrefix(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	h := http.StripPrefix("/docs", newHandler())
	mux.Handle("/docs/", h)
	mux.Handle("/docs", h)
	server := httptest.NewServer(mux)
	defer server.Close()
	for at, want := range map[string]string{"/docs": "/docs/", "/docs?x=/y": "/docs/", "/docs/": "/docs/", "/docs/asyncapi.json": "/docs/asyncapi.json"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+at, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := resp.Request.URL.String(); resp.StatusCode != 200 || got != server.URL+want {
			t.Errorf("%s leads to %s with %d, want %s", at, got, resp.StatusCode, want)
		}
		_ = resp.Body.Close()
	}
	// The prefix with its slash: nothing is left, and this is the root.
	if resp := ask(t, http.StripPrefix("/docs/", newHandler()), "GET", "/docs/"); resp.StatusCode != 200 {
		t.Errorf("with another prefix the page is %d", resp.StatusCode)
	}
	// No prefix makes an address of another kind of it.
	if resp := ask(t, http.StripPrefix("/javascript:x", newHandler()), "GET", "/javascript:x"); resp.Header.Get("Location") != "./javascript:x/" {
		t.Errorf("the way to the page is %q", resp.Header.Get("Location"))
	}
}

func TestLicences(t *testing.T) {
	t.Parallel()
	text := body(t, ask(t, newHandler(), "GET", "/licenses.txt"))
	for _, want := range []string{"Apache License", "react.production.min.js", "DOMPurify", "@asyncapi/react-component"} {
		if !strings.Contains(text, want) {
			t.Errorf("the licences do not name %s", want)
		}
	}
}
