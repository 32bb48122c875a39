package nats

import (
	"strings"
	"testing"

	natsd "github.com/nats-io/nats-server/v2/server"
)

func TestCheckSubject(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		subject            string
		subscribe, publish error
	}{
		{"orders", nil, nil},
		{"orders.new.eu", nil, nil},
		{"Orders-1_x/y", nil, nil},
		{"grüße.мир", nil, nil},
		{"a*b.c", errSubjectStar, errSubjectStar},
		{"a.**", errSubjectStar, errSubjectStar},
		{"a.b>", errSubjectStar, errSubjectStar},
		{"$KV.bucket.key", nil, nil},
		{"_INBOX.x", nil, nil},
		{"orders.*", nil, errSubjectWildcard},
		{"*", nil, errSubjectWildcard},
		{">", nil, errSubjectWildcard},
		{"orders.>", nil, errSubjectWildcard},
		{"$JS.API.STREAM.DELETE.ORDERS", nil, errSubjectServer},
		{"$SYS.REQ.SERVER.PING", nil, errSubjectServer},
		{"", errSubjectEmpty, errSubjectEmpty},
		{".", errSubjectToken, errSubjectToken},
		{"a..b", errSubjectToken, errSubjectToken},
		{".a", errSubjectToken, errSubjectToken},
		{"a.", errSubjectToken, errSubjectToken},
		{"a.>.b", errSubjectTail, errSubjectTail},
		{"a b", errSubjectSpace, errSubjectSpace},
		{"a\r\nPUB b 0\r\n", errSubjectSpace, errSubjectSpace},
		{"a\x00", errSubjectSpace, errSubjectSpace},
		{"a\x7f", errSubjectSpace, errSubjectSpace},
		{"a.\xff", errSubjectUTF8, errSubjectUTF8},
		{strings.Repeat("a", MaxName), nil, nil},
		{strings.Repeat("a", MaxName+1), errSubjectLong, errSubjectLong},
	} {
		if _, err := checkSubject(tt.subject); err != tt.subscribe {
			t.Errorf("subscribing to %q: %v, want %v", tt.subject, err, tt.subscribe)
		}
		if err := checkPublish(tt.subject); err != tt.publish {
			t.Errorf("publishing to %q: %v, want %v", tt.subject, err, tt.publish)
		}
	}
}

// FuzzMatch compares Match with the server's own rule.
func FuzzMatch(f *testing.F) {
	for _, seed := range [][2]string{
		{"orders", "orders"},
		{"orders.*", "orders.new"},
		{"orders.*", "orders"},
		{"orders.>", "orders"},
		{"orders.>", "orders.new.eu"},
		{">", "a"},
		{"*", "a.b"},
		{"*.*", "a.b"},
		{"a*", "a*"},
		{"a.*.c", "a.b.c"},
		{"a.>.c", "a.b.c"},
		{"a..b", "a..b"},
		{"a>", "a>"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, subject string) {
		_, patternErr := checkSubject(pattern)
		wild, subjectErr := checkSubject(subject)
		if patternErr == nil && !natsd.IsValidSubject(pattern) {
			t.Errorf("%q is taken, and the server does not take it", pattern)
		}
		if subjectErr == nil && !wild && !natsd.IsValidLiteralSubject(subject) {
			t.Errorf("%q is taken as a name, and the server does not take it as one", subject)
		}
		if patternErr != nil || subjectErr != nil || wild {
			if matches(pattern, subject) {
				t.Errorf("%q matches %q, and they cannot stand there", pattern, subject)
			}
			return
		}
		if got, want := matches(pattern, subject), natsd.SubjectsCollide(subject, pattern); got != want {
			t.Errorf("%q matches %q: %v, the server says %v", pattern, subject, got, want)
		}
	})
}

// FuzzOverlap compares what two patterns have in common with the server's own rule.
func FuzzOverlap(f *testing.F) {
	for _, seed := range [][2]string{
		{"a.*", "*.b"}, {"a.>", "a"}, {">", "a"}, {"a.b", "a.b.c"}, {"a.*.c", "a.>"}, {"*.>", "a.b"}, {"a.>", "*"}, {"a.*", "a.>"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if _, err := checkSubject(a); err != nil {
			return
		}
		if _, err := checkSubject(b); err != nil {
			return
		}
		if got, want := overlap(a, b), natsd.SubjectsCollide(a, b); got != want {
			t.Errorf("%q and %q overlap: %v, the server says %v", a, b, got, want)
		}
		if overlap(a, b) != overlap(b, a) {
			t.Errorf("whether %q and %q overlap depends on their order", a, b)
		}
		if got, want := covers(a, b), natsd.SubjectMatchesFilter(b, a); got != want {
			t.Errorf("%q covers %q: %v, the server says %v", a, b, got, want)
		}
	})
}
