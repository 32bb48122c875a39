package nats

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/gostream/gostream/broker"
)

// MaxName is the length of the longest subject, in bytes. A longer one could exceed
// the line that a server reads, and cost the connection.
const MaxName = 1024

var (
	errSubjectEmpty    = errors.New("the subject is empty")
	errSubjectLong     = fmt.Errorf("the subject is longer than %d bytes", MaxName)
	errSubjectToken    = errors.New("the subject has an empty token: no dot may stand first, last or beside another")
	errSubjectUTF8     = errors.New("the subject is not valid UTF-8")
	errSubjectSpace    = errors.New("the subject has white space or a control character")
	errSubjectWildcard = errors.New("the subject has a wildcard, '*' or '>', which stands in subscriptions only")
	errSubjectStar     = errors.New("'*' and '>' must be whole tokens: servers do not agree on what they mean within one")
	errSubjectTail     = errors.New("'>' must be the last token of a subject")
	errSubjectServer   = errors.New(`subjects that begin with "$JS." or "$SYS." are the server's own`)
)

// checkPublish says why nothing can be published to subject.
func checkPublish(subject string) error {
	wild, err := checkSubject(subject)
	switch {
	case err != nil:
		return err
	case wild:
		return errSubjectWildcard
	case strings.HasPrefix(subject, "$JS.") || strings.HasPrefix(subject, "$SYS."):
		return errSubjectServer
	}
	return nil
}

// checkSubject says why subject can be neither a name nor a pattern, and whether it
// has a wildcard.
func checkSubject(subject string) (wild bool, err error) {
	switch {
	case subject == "":
		return false, errSubjectEmpty
	case len(subject) > MaxName:
		return false, errSubjectLong
	}
	start, ascii := 0, true // where the token begins
	for i := 0; i <= len(subject); i++ {
		if i < len(subject) && subject[i] != '.' {
			c := subject[i]
			if c <= ' ' || c == 0x7f {
				return false, errSubjectSpace
			}
			ascii = ascii && c < utf8.RuneSelf
			continue
		}
		switch token := subject[start:i]; {
		case token == "":
			return false, errSubjectToken
		case token == "*":
			wild = true
		case token == ">" && i < len(subject):
			return false, errSubjectTail
		case token == ">":
			wild = true
		case strings.ContainsAny(token, "*>"):
			return false, errSubjectStar
		}
		start = i + 1
	}
	if !ascii && !utf8.ValidString(subject) {
		return false, errSubjectUTF8
	}
	return wild, nil
}

// match reports whether the valid pattern matches the valid subject, by the server's
// rule: '*' stands for one token, '>' for one or more.
func match(pattern, subject string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		s, srest, smore := strings.Cut(subject, ".")
		switch {
		case p == ">":
			return true
		case p != "*" && p != s:
			return false
		case !pmore || !smore:
			return pmore == smore
		}
		pattern, subject = prest, srest
	}
}

// overlap reports whether some subject matches both valid patterns.
func overlap(a, b string) bool {
	for {
		s, srest, smore := strings.Cut(a, ".")
		t, trest, tmore := strings.Cut(b, ".")
		switch {
		case s == ">" || t == ">":
			return true
		case s != t && s != "*" && t != "*":
			return false
		case !smore || !tmore:
			return smore == tmore
		}
		a, b = srest, trest
	}
}

// covers reports whether the valid pattern matches whatever the valid pattern narrow
// does.
func covers(pattern, narrow string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		n, nrest, nmore := strings.Cut(narrow, ".")
		switch {
		case p == ">":
			return true
		case n == ">" || p != "*" && p != n:
			return false
		case !pmore || !nmore:
			return pmore == nmore
		}
		pattern, narrow = prest, nrest
	}
}

// matches is match for a pattern and a subject that were not checked.
func matches(pattern, subject string) bool {
	if _, err := checkSubject(pattern); err != nil {
		return false
	}
	wild, err := checkSubject(subject)
	return err == nil && !wild && match(pattern, subject)
}

// checkToken says why s cannot be the name of a stream, a consumer or a queue group.
func checkToken(what, s string) error {
	switch {
	case s == "":
		return fmt.Errorf("the %s is empty", what)
	case len(s) > maxToken:
		return fmt.Errorf("the %s is longer than %d bytes", what, maxToken)
	case !utf8.ValidString(s):
		return fmt.Errorf("the %s is not valid UTF-8", what)
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || strings.IndexByte(`.*>/\`, c) >= 0 {
			return fmt.Errorf("the %s %s has white space, a control character or one of . * > / \\", what, broker.Quote(s))
		}
	}
	return nil
}

// maxToken is what servers take as the name of a stream or a consumer.
const maxToken = 255
