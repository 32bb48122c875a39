package viewer

import (
	"regexp"
	"strings"
)

// maxReason bounds the text of an error that is shown, in bytes.
const maxReason = 1 << 10

// What a text about a connection may carry: a password in an address, greedily, since it
// may have any character; and a value behind a word for a secret.
var (
	addressUser = regexp.MustCompile(`://[^\s"'<>]*@`)
	namedSecret = regexp.MustCompile(`(?i)(passw(?:or)?d|pwd|passphrase|secret|token|api[_-]?key|credentials?|authorization)` +
		`(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|(?:bearer|basic)\s+[^\s,;&]+|[^\s,;&]+)`)
)

// reason is what the page says of an error.
func reason(err error) string {
	text := strings.ToValidUTF8(err.Error(), "\uFFFD")
	text = addressUser.ReplaceAllString(text, "://…@")
	text = namedSecret.ReplaceAllString(text, "$1$2…")
	if len(text) > maxReason {
		const more = " …"
		text = strings.ToValidUTF8(text[:maxReason-len(more)], "") + more
	}
	return text
}
