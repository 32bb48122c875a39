package viewer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"
)

// policy is the Content-Security-Policy of every answer: what the component was seen to
// need, and nothing else. It has no inline script, no inline style, no frame, no worker,
// no font, and no address but those of this origin. The relaxations, each of which the
// browser tests fail without:
//
//   - script-src 'unsafe-eval': the component compiles the JSON Schemas of AsyncAPI into
//     functions, with new Function, when it starts. A script in the document is still not
//     run: that would need 'unsafe-inline'.
//   - connect-src 'self': fetching the document.
//   - img-src 'self': the page's icon. A picture of another host is not shown.
const policy = "default-src 'none'; " +
	"script-src 'self' 'unsafe-eval'; " +
	"style-src 'self'; " +
	"img-src 'self'; " +
	"connect-src 'self'; " +
	"frame-ancestors 'none'; " +
	"base-uri 'none'; " +
	"form-action 'none'"

// documentName is where the document is, below the root.
const documentName = "asyncapi.json"

// Handler returns a handler that serves the page at its root, the document at
// asyncapi.json below it, and what the page consists of. It may be mounted below a prefix
// with [http.StripPrefix], since the page has relative addresses only. It answers GET and
// HEAD, and is safe for concurrent use.
//
// load returns an AsyncAPI document, version 3, as JSON. It is called for each request of
// the document, with the request's context, by several goroutines at once, and what it
// returns is sent as it is. Its error is answered with status 500 and shown on the page,
// to everybody who can open it: cut to 1 KiB, and with what looks like a credential taken
// out. A nil load is such an error, too.
func Handler(load func(ctx context.Context) ([]byte, error)) http.Handler {
	if load == nil {
		load = func(context.Context) ([]byte, error) {
			return nil, errors.New("viewer: the handler was made without a function that loads the document")
		}
	}
	return &handler{load: load, paths: site()}
}

type handler struct {
	load  func(ctx context.Context) ([]byte, error)
	paths map[string]*asset // by the path below the root
}

func (v *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "this page is for reading: GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	asked, _, _ := strings.Cut(r.RequestURI, "?")
	if r.URL.Path == "" && !strings.HasSuffix(asked, "/") {
		// The prefix without its slash, where relative addresses would lead astray. The
		// way back to it is relative as well: a proxy may have taken off more.
		h.Set("Location", "./"+path.Base(asked)+"/")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	a := v.paths[name]
	switch {
	case name == documentName:
		v.document(w, r)
	case a != nil:
		a.ServeHTTP(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (v *handler) document(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	data, err := v.load(r.Context())
	if err != nil {
		http.Error(w, reason(err), http.StatusInternalServerError)
		return
	}
	sum := sha256.Sum256(data)
	h.Set("Content-Type", "application/json")
	h.Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}
