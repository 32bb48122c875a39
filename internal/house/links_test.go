package house

import (
	"errors"
	"fmt"
	"html"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// A link is the target of a link or an image, and the line it is on.
type link struct {
	line   int
	target string
}

var (
	inlineLink = regexp.MustCompile(`\]\(\s*(?:<([^>]*)>|([^()\s]*(?:\([^()\s]*\)[^()\s]*)*))(?:\s+(?:"[^"]*"|'[^']*'))?\s*\)`)
	definition = regexp.MustCompile(`^ {0,3}\[[^\]]+\]:\s*<?([^\s>]+)>?`)
	attribute  = regexp.MustCompile(`(?i)<[a-z][^>]*\s(?:href|src)\s*=\s*["']([^"']+)["']`)
	anchorAttr = regexp.MustCompile(`(?i)<[a-z][^>]*\s(?:id|name)\s*=\s*["']([^"']+)["']`)
)

// cutCode splits s around its first code span, whose end has as many backticks as
// its beginning.
func cutCode(s string) (before, code, after string) {
	for from := 0; ; {
		open := strings.IndexByte(s[from:], '`')
		if open < 0 {
			return s, "", ""
		}
		open += from
		n := backticks(s[open:])
		for i := open + n; i < len(s); {
			switch m := backticks(s[i:]); m {
			case n:
				return s[:open], strings.TrimSpace(s[open+n : i]), s[i+n:]
			case 0:
				i++
			default:
				i += m
			}
		}
		from = open + n
	}
}

func backticks(s string) int { return len(s) - len(strings.TrimLeft(s, "`")) }

// withoutCode returns s with empty code spans.
func withoutCode(s string) string {
	var text strings.Builder
	for {
		before, _, after := cutCode(s)
		text.WriteString(before)
		if after == "" {
			return text.String()
		}
		text.WriteString("``")
		s = after
	}
}

// links returns the targets of all links in lines of prose.
func links(prose []line) []link {
	var found []link
	for _, l := range prose {
		text := withoutCode(l.text)
		for _, m := range inlineLink.FindAllStringSubmatch(text, -1) {
			found = append(found, link{l.number, m[1] + m[2]})
		}
		if m := definition.FindStringSubmatch(text); m != nil {
			found = append(found, link{l.number, m[1]})
		}
		for _, m := range attribute.FindAllStringSubmatch(text, -1) {
			found = append(found, link{l.number, m[1]})
		}
	}
	return found
}

var (
	atxHeading = regexp.MustCompile(`^ {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$`)
	setextLine = regexp.MustCompile(`^ {0,3}(=+|-+)[ \t]*$`)
	notText    = regexp.MustCompile(`^ {0,3}(?:[-*+>|#]|\d+[.)])(?:[ \t]|$)`)
)

// anchors returns what a fragment may name in a file of such prose: the slugs of
// its headings, by GitHub's rule, and the anchors in its HTML.
func anchors(prose []line) []string {
	var found []string
	seen := map[string]bool{}
	add := func(heading string) {
		s := slug(heading)
		unique := s
		for n := 1; seen[unique]; n++ {
			unique = s + "-" + strconv.Itoa(n)
		}
		seen[unique] = true
		found = append(found, unique)
	}
	for i, l := range prose {
		if m := atxHeading.FindStringSubmatch(l.text); m != nil {
			add(m[1])
		} else if i > 0 && setextLine.MatchString(l.text) {
			above := prose[i-1]
			if above.number == l.number-1 && strings.TrimSpace(above.text) != "" && !notText.MatchString(above.text) {
				add(strings.TrimSpace(above.text))
			}
		}
		for _, m := range anchorAttr.FindAllStringSubmatch(withoutCode(l.text), -1) {
			found = append(found, m[1])
		}
	}
	return found
}

var (
	imageText    = regexp.MustCompile(`!\[[^\]]*\]\([^)]*\)`)
	linkText     = regexp.MustCompile(`\[([^\]]*)\](?:\([^)]*\)|\[[^\]]*\])`)
	htmlTag      = regexp.MustCompile(`</?[a-zA-Z][^>]*>`)
	underscored  = regexp.MustCompile(`(^|[^\pL\pN_])_{1,2}([^_\s](?:[^_]*[^_\s])?)_{1,2}($|[^\pL\pN_])`)
	backslashed  = regexp.MustCompile("\\\\([!-/:-@\\[-`{-~])")
	plainHeading = func(s string) string {
		s = imageText.ReplaceAllString(s, "")
		s = linkText.ReplaceAllString(s, "$1")
		s = htmlTag.ReplaceAllString(s, "")
		s = underscored.ReplaceAllString(s, "$1$2$3")
		s = backslashed.ReplaceAllString(s, "$1")
		return html.UnescapeString(s)
	}
)

// slug is GitHub's name for a heading: its text in lower case, without anything
// but letters, digits, underscores, hyphens and spaces, these as hyphens.
func slug(heading string) string {
	// What stands in code spans is text as it is.
	var text strings.Builder
	for heading != "" {
		before, code, after := cutCode(heading)
		text.WriteString(plainHeading(before))
		text.WriteString(code)
		heading = after
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', unicode.IsLetter(r), unicode.IsMark(r), unicode.Is(unicode.Nd, r), unicode.Is(unicode.Pc, r):
			return unicode.ToLower(r)
		default:
			return -1
		}
	}, strings.TrimSpace(text.String()))
}

// checkLink reports why target, a link in file, leads nowhere. exists tells
// whether there is a file or folder of a name relative to the root, and
// anchorsOf lists the anchors of a Markdown file. Links to other sites are not
// looked at.
func checkLink(file, target string, exists func(string) bool, anchorsOf func(string) ([]string, error)) error {
	if elsewhere.MatchString(target) {
		return nil
	}
	name, fragment, hasFragment := strings.Cut(target, "#")
	name, _, _ = strings.Cut(name, "?")
	name, err := unescape(name)
	if err != nil {
		return err
	}
	switch {
	case name == "":
		name = file
	case strings.HasPrefix(name, "/"):
		name = path.Clean(name[1:])
	default:
		name = path.Join(path.Dir(file), name)
	}
	if name == ".." || strings.HasPrefix(name, "../") {
		return errors.New("it leaves the repository")
	}
	if !exists(name) {
		return fmt.Errorf("there is no %s", name)
	}
	if !hasFragment {
		return nil
	}
	if !strings.HasSuffix(name, ".md") {
		if lineFragment.MatchString(fragment) {
			return nil
		}
		return fmt.Errorf("%s is no Markdown file and has no #%s", name, fragment)
	}
	fragment, err = unescape(fragment)
	if err != nil {
		return err
	}
	there, err := anchorsOf(name)
	if err != nil {
		return err
	}
	if !slices.Contains(there, fragment) {
		return fmt.Errorf("%s has no heading #%s", name, fragment)
	}
	return nil
}

var (
	elsewhere    = regexp.MustCompile(`^(?:[a-zA-Z][a-zA-Z0-9+.-]*:|//)`)
	lineFragment = regexp.MustCompile(`^L\d+(-L\d+)?$`)
)

func unescape(s string) (string, error) {
	u, err := url.PathUnescape(s)
	if err != nil {
		return "", fmt.Errorf("it is badly escaped: %w", err)
	}
	return u, nil
}

func TestLinks(t *testing.T) {
	t.Parallel()
	_, prose, err := scan("See [a](a.md) and [b](b.md#part \"title\"), not `[c](c.md)`.\n" + // 1
		"[![badge](badge.svg)](https://example.com/x)\n" + // 2
		"```go\n[d](d.md)\n```\n" +
		"[ref]: ../ref.md\n" + // 6
		"<a href=\"e.md\">e</a> <img alt='x' src='f.png'>\n" + // 7
		"[g](<g h.md>) [p](p_(q).md) [here](#here)\n" + // 8
		"``[c`](no.md)`` and `[d](no.md)`, one ` alone, [y](y)\n") // 9
	if err != nil {
		t.Fatal(err)
	}
	want := []link{
		{1, "a.md"},
		{1, "b.md#part"},
		{2, "badge.svg"},
		{2, "https://example.com/x"},
		{6, "../ref.md"},
		{7, "e.md"},
		{7, "f.png"},
		{8, "g h.md"},
		{8, "p_(q).md"},
		{8, "#here"},
		{9, "y"},
	}
	if got := links(prose); !slices.Equal(got, want) {
		t.Errorf("the links are\n%v, want\n%v", got, want)
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	_, prose, err := scan("# The *house*, 2nd `App.Run(ctx)` part!\n" +
		"## Same\n## Same\n## Same-1\n### Same ###\n" +
		"## `snake_case` and _emphasis_ and __strong__ in my_name\n" +
		"## [A link](to.md) & ![image](x.png) <b>bold</b> &amp; more\n" +
		"## Größe: 10 µs → 3\n" +
		"#No heading\n" +
		"```sh\n# a comment\n```\n" +
		"Underlined\n==========\n" +
		"Also so\n---\n" +
		"\n---\n" +
		"- a list\n---\n" +
		"<a id=\"By-Hand\"></a> `<a id=\"code\"></a>`\n" +
		"## Ack, Nack & co. — what `_` means\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"the-house-2nd-apprunctx-part",
		"same", "same-1", "same-1-1", "same-2",
		"snake_case-and-emphasis-and-strong-in-my_name",
		"a-link---bold--more",
		"größe-10-µs--3",
		"underlined", "also-so",
		"By-Hand",
		"ack-nack--co--what-_-means",
	}
	if got := anchors(prose); !slices.Equal(got, want) {
		t.Errorf("the anchors are\n%q, want\n%q", got, want)
	}
}

func TestCheckLink(t *testing.T) {
	t.Parallel()
	files := []string{"README.md", "docs", "docs/a.md", "docs/b c.md", "broker", "broker/broker.go"}
	exists := func(name string) bool { return slices.Contains(files, name) }
	anchorsOf := func(name string) ([]string, error) { return []string{"in-" + path.Base(name), "größe"}, nil }
	for _, tt := range []struct {
		file, target string
		broken       string
	}{
		{"README.md", "https://example.com/none", ""},
		{"README.md", "mailto:nobody@example.com", ""},
		{"README.md", "//example.com", ""},
		{"README.md", "docs/a.md", ""},
		{"README.md", "docs/", ""},
		{"README.md", "./docs/a.md#in-a.md", ""},
		{"README.md", "#in-README.md", ""},
		{"README.md", "docs/b%20c.md", ""},
		{"README.md", "docs/a.md#gr%C3%B6%C3%9Fe", ""},
		{"README.md", "broker/broker.go#L3-L7", ""},
		{"docs/a.md", "../README.md", ""},
		{"docs/a.md", "/broker/broker.go", ""},
		{"docs/a.md", "b c.md", ""},
		{"docs/a.md", "README.md", "there is no docs/README.md"},
		{"README.md", "docs/gone.md", "there is no docs/gone.md"},
		{"README.md", "/gone", "there is no gone"},
		{"README.md", "#gone", "README.md has no heading #gone"},
		{"README.md", "docs/a.md#In-a.md", "docs/a.md has no heading #In-a.md"},
		{"README.md", "broker/broker.go#Broker", "no Markdown file"},
		{"README.md", "broker#x", "no Markdown file"},
		{"README.md", "../other", "leaves the repository"},
		{"docs/a.md", "../../other", "leaves the repository"},
		{"README.md", "docs/%zz", "badly escaped"},
	} {
		err := checkLink(tt.file, tt.target, exists, anchorsOf)
		if tt.broken == "" && err != nil || tt.broken != "" && (err == nil || !strings.Contains(err.Error(), tt.broken)) {
			t.Errorf("%s in %s: %v, want %q", tt.target, tt.file, err, tt.broken)
		}
	}
}
