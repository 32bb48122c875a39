package house

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
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
