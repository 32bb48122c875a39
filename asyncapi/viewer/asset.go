package viewer

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io"
	"mime"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
)

// The component with its licences, and the page around it, which is ours.
//
//go:embed assets page
var embedded embed.FS

// An asset is a file of the page.
type asset struct {
	contentType string
	etag        string // without quotes: of the stored bytes
	stored      []byte
	packed      bool // stored is gzipped
	forever     bool // the path has the hash
	unpacked    func() ([]byte, error)
}

func newAsset(name string, stored []byte) *asset {
	sum := sha256.Sum256(stored)
	a := &asset{etag: hex.EncodeToString(sum[:8]), stored: stored}
	name, a.packed = strings.CutSuffix(name, ".gz")
	a.contentType = contentTypes[path.Ext(name)]
	// The few clients that do not take gzip share what the first of them unpacked.
	a.unpacked = sync.OnceValues(func() ([]byte, error) { return unpack(stored) })
	return a
}

// contentTypes is ours, because what package mime says depends on the machine.
var contentTypes = map[string]string{
	".css":  "text/css; charset=utf-8",
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
	".txt":  "text/plain; charset=utf-8",
}

func unpack(stored []byte) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(stored))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// site returns what the page consists of, by the path below its root; the page itself is
// "". It is made once: the bytes are those of the binary.
var site = sync.OnceValue(func() map[string]*asset {
	paths := make(map[string]*asset)
	var names []string
	for _, name := range []string{"assets/component.js.gz", "assets/component.css.gz", "page/app.js", "page/app.css", "page/icon.svg"} {
		a := newAsset(name, read(name))
		a.forever = true
		base := strings.TrimSuffix(path.Base(name), ".gz")
		ext := path.Ext(base)
		at := "assets/" + strings.TrimSuffix(base, ext) + "." + a.etag + ext
		paths[at] = a
		names = append(names, "{{"+base+"}}", at)
	}
	page := strings.NewReplacer(names...).Replace(string(read("page/index.html")))
	paths[""] = newAsset("index.html", []byte(page))
	paths["licenses.txt"] = newAsset("licenses.txt", bytes.Join([][]byte{
		[]byte("The React component that shows the document, @asyncapi/react-component:\n\n"), read("assets/LICENSE.txt"),
		[]byte("\nWhat it contains:\n\n"), read("assets/component.js.LICENSE.txt"),
	}, nil))
	return paths
})

// read reads a file that the binary has: its absence is a mistake of the build.
func read(name string) []byte {
	data, err := embedded.ReadFile(name)
	if err != nil {
		panic(fmt.Sprintf("viewer: %v", err))
	}
	return data
}

func (a *asset) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", a.contentType)
	h.Set("Cache-Control", "no-cache")
	if a.forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	data, etag := a.stored, a.etag
	if a.packed {
		h.Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			h.Set("Content-Encoding", "gzip")
			etag += "-gzip"
		} else {
			var err error
			if data, err = a.unpacked(); err != nil {
				http.Error(w, "an asset of this program is damaged", http.StatusInternalServerError)
				return
			}
		}
	}
	h.Set("ETag", `"`+etag+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// acceptsGzip reports whether the client takes gzip: named, or by a star, and not with a
// weight of zero.
func acceptsGzip(h http.Header) bool {
	star := false
	for _, line := range h.Values("Accept-Encoding") {
		for part := range strings.SplitSeq(line, ",") {
			coding, params, _ := strings.Cut(part, ";")
			accepted := weighs(params)
			switch strings.ToLower(strings.TrimSpace(coding)) {
			case "gzip", "x-gzip":
				return accepted
			case "*":
				star = accepted
			}
		}
	}
	return star
}

// weighs reports whether the parameters of a coding leave it a weight.
func weighs(params string) bool {
	_, p, err := mime.ParseMediaType("a/b;" + params)
	if err != nil {
		return params == ""
	}
	return strings.Trim(p["q"], "0.") != "" || p["q"] == ""
}
