package viewer

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// What is embedded unpacks to what internal/generate has recorded.
func TestSums(t *testing.T) {
	t.Parallel()
	n := 0
	for line := range strings.Lines(string(read("assets/SHA256SUMS"))) {
		n++
		sum, name, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "  ")
		if !ok {
			t.Fatalf("the line is %q", line)
		}
		data, err := unpack(read("assets/" + name + ".gz"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(data)); got != sum {
			t.Errorf("%s has the sum %s, recorded is %s", name, got, sum)
		}
	}
	if n != 2 {
		t.Errorf("%d sums, want those of the script and the style", n)
	}
}

// An asset that does not unpack is an error, not half a script.
func TestDamagedAsset(t *testing.T) {
	t.Parallel()
	stored := read("assets/component.css.gz")
	if _, err := unpack(stored[:len(stored)-1]); err == nil {
		t.Error("an asset without its last byte unpacks")
	}
	if _, err := unpack([]byte("plain")); err == nil {
		t.Error("an asset that is not packed unpacks")
	}
}

func TestAcceptsGzip(t *testing.T) {
	t.Parallel()
	for accept, want := range map[string]bool{
		"":                        false,
		"gzip":                    true,
		"GZip":                    true,
		"x-gzip":                  true,
		"br, gzip;q=0.5":          true,
		"gzip ; q=1":              true,
		"gzip;q=0":                false,
		"gzip;q=0.000, br":        false,
		"gzip;q=":                 false,
		"identity":                false,
		"*":                       true,
		"*;q=0":                   false,
		"*, gzip;q=0":             false,
		"*;q=0, gzip":             true,
		"gzipped":                 false,
		"deflate, br;q=1.0, zstd": false,
	} {
		if got := acceptsGzip(http.Header{"Accept-Encoding": {accept}}); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
	if !acceptsGzip(http.Header{"Accept-Encoding": {"br", "gzip"}}) {
		t.Error("the second line is not heeded")
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"channel orders: no payload type":                    "channel orders: no payload type",
		"dial amqp://me:p/w@d@host:1/ failed":                "dial amqp://…@host:1/ failed",
		`bad "nats://tok@a:1" and "nats://u:p@b:2"`:          `bad "nats://…@a:1" and "nats://…@b:2"`,
		"password=hunter2, host=a":                           "password=…, host=a",
		`{"api_key": "a b c", "x": 1}`:                       `{"api_key": …, "x": 1}`,
		"Authorization: Bearer abc.def of the server":        "Authorization: … of the server",
		"no broker has the token":                            "no broker has the token",
		"a\xffb":                                             "a\uFFFDb",
		strings.Repeat("€", maxReason):                       strings.Repeat("€", 340) + " …",
		"the file /srv/app/asyncapi.json: permission denied": "the file /srv/app/asyncapi.json: permission denied",
	} {
		got := reason(errors.New(text))
		if got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
		if len(got) > maxReason {
			t.Errorf("%q has %d bytes", got, len(got))
		}
	}
}
