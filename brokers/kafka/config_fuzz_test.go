package kafka

import (
	"net"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// FuzzParseBroker: an address that is taken can be dialled and printed, and is its own
// address; the error of one that is not shows nothing of it.
func FuzzParseBroker(f *testing.F) {
	for _, seed := range []string{
		"localhost", "localhost:9092", "[::1]:1", "::1", "[::1]", "[::1", "a:b:c", ":9092", "h:", "h:0", "h:65536", "h:+1", "h:0x10",
		"kafka://h", "user:topsecret@h", "h/p", "[]", "[]:1", "fe80::1%eth0", "[fe80::1%eth0]:1", "a]b", "]a[", "a\nb", "a\x00", "ä:1", "h:1_0",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := parseBroker(raw)
		if err != nil {
			if got != "" {
				t.Errorf("%q is refused and is %q", raw, got)
			}
			const secret = "topsecret"
			if strings.Contains(raw, secret) && strings.Contains(err.Error(), secret) {
				t.Errorf("the error shows the address: %v", err)
			}
			return
		}
		host, port, err := net.SplitHostPort(got)
		if err != nil || host == "" {
			t.Fatalf("%q became %q: %v", raw, got, err)
		}
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			t.Errorf("%q has the port %q", raw, port)
		}
		if strings.ContainsAny(host, "@/?# []") || strings.ContainsFunc(host, unicode.IsControl) {
			t.Errorf("%q has the host %q", raw, host)
		}
		if again, err := parseBroker(got); err != nil || again != got {
			t.Errorf("%q became %q, and that %q: %v", raw, got, again, err)
		}
	})
}
