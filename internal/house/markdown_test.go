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

// A fence is a fenced code block of a Markdown file.
type fence struct {
	line    int    // where it opens; its code begins on the next one
	lang    string // the first word of the info string, in lower case
	excerpt string // the file that a snippet comment names; "" for none
	code    []string
}

var (
	fenceOpen   = regexp.MustCompile("^([ \t]*)(`{3,}|~{3,})[ \t]*(.*)$")
	snippetLine = regexp.MustCompile(`^<!--\s*snippet:\s*(\S+)\s*-->$`)
)

// scan reads Markdown line by line: fences with their code, and the lines
// outside of them by their numbers.
func scan(text string) (fences []fence, prose []line, err error) {
	var open *fence
	var marker, indent string
	var depth int
	var above string // the last line outside of fences that is not blank
	for i, raw := range strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n") {
		d, content := unquote(raw, -1)
		if open != nil {
			_, content = unquote(raw, depth)
			if closes(content, marker) {
				fences = append(fences, *open)
				open, above = nil, ""
				continue
			}
			open.code = append(open.code, unindent(content, indent))
			continue
		}
		m := fenceOpen.FindStringSubmatch(content)
		if m == nil || m[2][0] == '`' && strings.Contains(m[3], "`") {
			prose = append(prose, line{i + 1, content})
			if s := strings.TrimSpace(content); s != "" {
				above = s
			}
			continue
		}
		indent, marker, depth = m[1], m[2], d
		open = &fence{line: i + 1}
		if info := strings.Fields(m[3]); len(info) > 0 {
			open.lang = strings.ToLower(info[0])
		}
		if s := snippetLine.FindStringSubmatch(above); s != nil {
			open.excerpt = s[1]
		}
	}
	if open != nil {
		return nil, nil, fmt.Errorf("the fence of line %d is never closed", open.line)
	}
	return fences, prose, nil
}

// A line is a line of text outside of fences.
type line struct {
	number int
	text   string
}

// unquote takes off the marks of block quotes, at most limit of them, or all for
// a limit of -1.
func unquote(s string, limit int) (depth int, rest string) {
	for limit < 0 || depth < limit {
		t := strings.TrimLeft(s, " \t")
		if !strings.HasPrefix(t, ">") {
			break
		}
		s = strings.TrimPrefix(t[1:], " ")
		depth++
	}
	return depth, s
}

func closes(s, marker string) bool {
	s = strings.TrimSpace(s)
	return len(s) >= len(marker) && strings.Trim(s, marker[:1]) == ""
}

// unindent takes off the white space that stood before the fence itself.
func unindent(s, indent string) string {
	for range len(indent) {
		if s == "" || s[0] != ' ' && s[0] != '\t' {
			break
		}
		s = s[1:]
	}
	return s
}

// whole reports whether the code is a Go file: its first line that is neither
// blank nor a comment begins with package.
func (f fence) whole() bool {
	for _, l := range f.code {
		l = strings.TrimSpace(l)
		if l != "" && !strings.HasPrefix(l, "//") {
			return strings.HasPrefix(l, "package ")
		}
	}
	return false
}

// checkExcerpt reports why code is no contiguous run of lines of source. The
// indentation that all lines of a side share does not count.
func checkExcerpt(code []string, source string) error {
	want := dedent(code)
	if len(want) == 0 {
		return errors.New("the fence is empty")
	}
	lines := strings.Split(strings.ReplaceAll(source, "\r\n", "\n"), "\n")
	best, at := 0, 0
	for i := range lines {
		if i+len(want) <= len(lines) && slices.Equal(dedent(lines[i:i+len(want)]), want) {
			return nil
		}
		n := 0
		for n < len(want) && i+n < len(lines) && strings.TrimSpace(lines[i+n]) == strings.TrimSpace(want[n]) {
			n++
		}
		if n > best {
			best, at = n, i
		}
	}
	switch {
	case best == 0:
		return fmt.Errorf("its first line, %q, does not occur there", want[0])
	case best == len(want):
		return fmt.Errorf("its lines occur there from line %d on, with another indentation", at+1)
	case at+best == len(lines):
		return fmt.Errorf("it follows the file from line %d to its end, then adds %q", at+1, want[best])
	default:
		return fmt.Errorf("it follows the file from line %d on, then has %q where line %d is %q", at+1, want[best], at+best+1, strings.TrimSpace(lines[at+best]))
	}
}

// dedent takes off blank lines around, white space behind, and the indentation
// that all lines share.
func dedent(lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = strings.TrimRight(l, " \t")
	}
	for len(out) > 0 && out[0] == "" {
		out = out[1:]
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	shared := -1
	for i, l := range out {
		if l == "" {
			continue
		}
		n := len(l) - len(strings.TrimLeft(l, " \t"))
		if shared < 0 {
			shared = n
			continue
		}
		shared = min(shared, n)
		for j := range shared {
			if l[j] != first(out[:i])[j] {
				shared = j
				break
			}
		}
	}
	for i, l := range out {
		if l != "" {
			out[i] = l[shared:]
		}
	}
	return out
}

// first returns the first line that is not blank.
func first(lines []string) string {
	for _, l := range lines {
		if l != "" {
			return l
		}
	}
	return ""
}

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

func TestScanFences(t *testing.T) {
	t.Parallel()
	const text = "# Title\n" + // 1
		"\n" +
		"<!-- snippet: a/b.go -->\n" +
		"```go\n" + // 4
		"x := 1\n" +
		"\n" +
		"\ty := 2\n" +
		"```\n" +
		"Text between.\n" +
		"```Go title=main.go\n" + // 10
		"package main\n" +
		"```\n" +
		"<!-- snippet: c.go -->\n" +
		"\n" +
		"1. In a list:\n" +
		"   ````go\n" + // 16
		"   ```\n" +
		"     z := 3\n" +
		"   `````\n" +
		"~~~sh\n" + // 20
		"```go\n" +
		"~~~\n" +
		"> ```go\n" + // 23
		"> q := 4\n" +
		"> ```\n" +
		"```\n" + // 26
		"```\n" +
		"```inline``` is no fence\n" +
		"<!-- snippet: d.go -->\r\n" +
		"\n" +
		"```go\r\n" + // 31
		"w := 5\r\n" +
		"```\r\n"
	got, prose, err := scan(text)
	if err != nil {
		t.Fatal(err)
	}
	want := []fence{
		{4, "go", "a/b.go", []string{"x := 1", "", "\ty := 2"}},
		{10, "go", "", []string{"package main"}},
		{16, "go", "", []string{"```", "  z := 3"}},
		{20, "sh", "", []string{"```go"}},
		{23, "go", "", []string{"q := 4"}},
		{26, "", "", nil},
		{31, "go", "d.go", []string{"w := 5"}},
	}
	if !slices.EqualFunc(got, want, func(a, b fence) bool {
		return a.line == b.line && a.lang == b.lang && a.excerpt == b.excerpt && slices.Equal(a.code, b.code)
	}) {
		t.Errorf("the fences are\n%+v, want\n%+v", got, want)
	}
	var outside []int
	for _, l := range prose {
		outside = append(outside, l.number)
	}
	if want := []int{1, 2, 3, 9, 13, 14, 15, 28, 29, 30, 34}; !slices.Equal(outside, want) {
		t.Errorf("the lines outside are %v, want %v", outside, want)
	}

	for _, open := range []string{"```go\nx := 1\n", "text\n\n~~~\n```\n", "````go\n```\n"} {
		if _, _, err := scan(open); err == nil || !strings.Contains(err.Error(), "never closed") {
			t.Errorf("the open fence of %q: %v", open, err)
		}
	}
}

func TestWhole(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"package main":                       true,
		"// A program.\n\npackage main\n":    true,
		"import \"fmt\"\n\npackage main":     false,
		"app := gostream.New()":              false,
		"packages := 1":                      false,
		"// package main\nx := 1":            false,
		"":                                   false,
		"// only\n// comments":               false,
		"\tpackage indented\n\n\tfunc f(){}": true,
	} {
		if got := (fence{code: strings.Split(code, "\n")}).whole(); got != want {
			t.Errorf("%q: %v", code, got)
		}
	}
}

func TestCheckExcerpt(t *testing.T) {
	t.Parallel()
	const source = "package p\n\nfunc f() {\n\tif x {\n\t\ta()\n\n\t\tb() \n\t}\n}\n\nfunc g() {\n\ta()\n\tc()\n}\n"
	for _, tt := range []struct {
		name, code string
		broken     string // what the message says; "" where it is an excerpt
	}{
		{"the whole", source, ""},
		{"a run at its own depth", "func f() {\n\tif x {", ""},
		{"a run taken out of its depth", "if x {\n\ta()\n\n\tb()\n}", ""},
		{"blank lines around", "\n\na()\n\nb()\n\n", ""},
		{"deeper than the source", "\t\t\tfunc g() {\n\t\t\t\ta()", ""},
		{"the second of two places", "a()\nc()", ""},
		{"nothing", "\n\n", "empty"},
		{"not there", "d()", `"d()", does not occur`},
		{"a line left out", "func f() {\n\tif x {\n\t\tb()", `from line 3 on, then has "\t\tb()" where line 5 is "a()"`},
		{"another order", "c()\na()", `then has "a()" where line 14 is "}"`},
		{"another indentation", "if x {\na()\n\nb()\n}", "another indentation"},
		{"spaces for tabs", "func g() {\n    a()\n    c()\n}", "another indentation"},
		{"beyond the end", "}\n\nfunc g() {\n\ta()\n\tc()\n}\n\nx()", "to its end, then adds"},
	} {
		err := checkExcerpt(strings.Split(tt.code, "\n"), source)
		if tt.broken == "" && err != nil || tt.broken != "" && (err == nil || !strings.Contains(err.Error(), tt.broken)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.broken)
		}
	}
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
