package ops_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gostream/gostream/ops"
)

// Every route with every method, on the whole handler and on its parts.
func TestMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := newApp(newTestBroker(nil), nothing)
		h := newHandler(t, app, ops.Control(anybody))
		s := start(t, app)
		parts := http.NewServeMux()
		parts.HandleFunc("/livez", h.Livez)
		parts.HandleFunc("/readyz", h.Readyz)
		parts.HandleFunc("/subscriptions", h.Subscriptions)
		parts.HandleFunc("/subscriptions/{name}/pause", h.Pause)
		parts.HandleFunc("/subscriptions/{name}/resume", h.Resume)
		for _, handler := range []http.Handler{h, parts} {
			for path, allowed := range map[string]string{
				"/livez":                       "GET, HEAD",
				"/readyz":                      "GET, HEAD",
				"/subscriptions":               "GET, HEAD",
				"/subscriptions/orders/pause":  "POST",
				"/subscriptions/orders/resume": "POST",
			} {
				for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} {
					a := do(t, handler, method, path)
					if strings.Contains(allowed+",", method+",") {
						if a.status != 200 || a.header.Get("Allow") != "" {
							t.Errorf("%s %s is %d: %s", method, path, a.status, a.body)
						}
						continue
					}
					if a.status != 405 || a.header.Get("Allow") != allowed {
						t.Errorf("%s %s is %d, Allow %q, want %q: %s", method, path, a.status, a.header.Get("Allow"), allowed, a.body)
					}
				}
			}
		}
		get := do(t, h, "GET", "/subscriptions")
		head := do(t, h, "HEAD", "/subscriptions")
		if got, want := head.header.Get("Content-Length"), get.header.Get("Content-Length"); got != want {
			t.Errorf("HEAD says %s bytes, GET has %s", got, want)
		}
		shutdown(t, s)
	})
}

// What is no path of the handler's is 404, in JSON; nothing is redirected.
func TestOtherPaths(t *testing.T) {
	t.Parallel()
	app := newApp(newTestBroker(nil), nothing)
	h := newHandler(t, app, ops.Control(anybody))
	for _, path := range []string{
		"/", "/livez/", "/Livez", "//livez", "/livez/..", "/%6Civez", "/subscriptions/", "/subscriptions/orders",
		"/subscriptions//pause", "/subscriptions/orders/", "/subscriptions/orders/stop", "/subscriptions/orders/pause/",
		"/subscriptions/a/b/pause", "/subscriptions/orders/pause/x", "/subscriptions/pause",
	} {
		for _, method := range []string{"GET", "POST"} {
			if a := do(t, h, method, path); a.status != 404 || !strings.Contains(a.Error, "/readyz") {
				t.Errorf("%s %s is %d: %s", method, path, a.status, a.body)
			}
		}
	}
}
