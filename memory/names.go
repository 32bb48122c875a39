package memory

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/gostream/gostream/broker"
)

// MaxName is the length of the longest name and of the longest pattern, in bytes.
const MaxName = 1024

// The rule for names stands in the package comment, the one for patterns at Pattern.

// inboxToken is the first token of every reply-to name.
const inboxToken = "_inbox"

var (
	errNameEmpty    = errors.New("the name is empty")
	errNameLong     = fmt.Errorf("the name is longer than %d bytes", MaxName)
	errNameToken    = errors.New("the name has an empty token: no dot may stand first, last or beside another")
	errNameUTF8     = errors.New("the name is not valid UTF-8")
	errNameSpace    = errors.New("the name has white space or a control character")
	errNameWildcard = errors.New("the name has a wildcard character, '*' or '>': to subscribe by pattern use memory.Pattern or memory.Queue")
	errNameReserved = errors.New("names that begin with " + inboxToken + " are reserved for replies")
	errPatternStar  = errors.New("'*' must be a whole token of a pattern")
	errPatternTail  = errors.New("'>' must be the whole last token of a pattern")
)

// checkName says why name is not a concrete name, nil where it is one.
func checkName(name string) error {
	if err := checkText(name); err != nil {
		return err
	}
	if strings.ContainsAny(name, "*>") {
		return errNameWildcard
	}
	return nil
}

// checkPattern says why pattern is neither a concrete name nor a pattern.
func checkPattern(pattern string) error {
	if err := checkText(pattern); err != nil {
		return err
	}
	for rest, more := pattern, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ".")
		if strings.Contains(token, "*") && token != "*" {
			return errPatternStar
		}
		if strings.Contains(token, ">") && (token != ">" || more) {
			return errPatternTail
		}
	}
	return nil
}

// checkText checks what names and patterns have in common.
func checkText(s string) error {
	switch {
	case s == "":
		return errNameEmpty
	case len(s) > MaxName:
		return errNameLong
	}
	start := true // at the start of a token
	for i := 0; i < len(s); {
		c := s[i]
		if c == '.' {
			if start {
				return errNameToken
			}
			start = true
			i++
			continue
		}
		start = false
		if c < utf8.RuneSelf {
			if c <= ' ' || c == 0x7f {
				return errNameSpace
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return errNameUTF8
		}
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return errNameSpace
		}
		i += n
	}
	if start {
		return errNameToken
	}
	if isReserved(s) {
		return errNameReserved
	}
	return nil
}

// isReserved reports whether the first token of name is the one for replies.
func isReserved(name string) bool {
	rest, ok := strings.CutPrefix(name, inboxToken)
	return ok && (rest == "" || rest[0] == '.')
}

// hasWildcard reports whether a valid pattern is more than a concrete name.
func hasWildcard(pattern string) bool { return strings.ContainsAny(pattern, "*>") }

// match reports whether the valid pattern matches the valid concrete name.
func match(pattern, name string) bool {
	for {
		p, prest, pmore := strings.Cut(pattern, ".")
		n, nrest, nmore := strings.Cut(name, ".")
		switch {
		case p == ">":
			return true
		case p != "*" && p != n:
			return false
		case !pmore || !nmore:
			return pmore == nmore
		}
		pattern, name = prest, nrest
	}
}

var (
	errHeaderEmpty = errors.New("a header key is empty")
	errHeaderKey   = errors.New("a header key has white space, a control character or a colon")
)

// checkHeaders says why h cannot be kept. Values hold any bytes.
func checkHeaders(h broker.Headers) error {
	for key := range h.All() {
		if key == "" {
			return errHeaderEmpty
		}
		if !isHeaderKey(key) {
			return fmt.Errorf("%w: %s", errHeaderKey, broker.Quote(key))
		}
	}
	return nil
}

func isHeaderKey(key string) bool {
	for i := range len(key) {
		c := key[i]
		if c >= utf8.RuneSelf {
			return !strings.ContainsFunc(key, func(r rune) bool {
				return r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
			})
		}
		if c <= ' ' || c == ':' || c == 0x7f {
			return false
		}
	}
	return true
}
