package ops

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// failure is the body of an answer that is an error.
type failure struct {
	Error         string   `json:"error"`
	State         string   `json:"state,omitempty"`
	Subscriptions []string `json:"subscriptions,omitempty"`
}

func fail(w http.ResponseWriter, r *http.Request, status int, text, state string) {
	respond(w, r, status, failure{Error: text, State: state})
}

func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	text := "there is nothing here; there are /livez, /readyz and /subscriptions"
	if h.authorize != nil {
		text = "there is nothing here; there are /livez, /readyz, /subscriptions, and /subscriptions/{name}/pause and /resume, with the name escaped"
	}
	fail(w, r, http.StatusNotFound, text, "")
}

// allow reports whether the request's method is one of methods, and answers it if not.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	fail(w, r, http.StatusMethodNotAllowed, "the method is not allowed here; allowed: "+strings.Join(methods, ", "), "")
	return false
}

// respond writes v as JSON.
func respond(w http.ResponseWriter, r *http.Request, status int, v any) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil { // of our own plain structs: not seen
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "application/json")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes()) // the client has gone, or has it
	}
}
