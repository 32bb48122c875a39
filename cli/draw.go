package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/gostream/gostream"
)

// width is what lines for people fit in.
const width = 100

// isTerminal reports a stream that is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}

// paint colours text, where it is true.
type paint bool

func (p paint) red(s string) string { return p.with("\x1b[1;31m", s) }
func (p paint) dim(s string) string { return p.with("\x1b[2m", s) }

func (p paint) with(code, s string) string {
	if !p {
		return s
	}
	return code + s + "\x1b[0m"
}

// exitError ends a command with a code. err may be nil: all was said before.
type exitError struct {
	code int
	err  error
	hint string // what helps, a line; "" for nothing
}

func (e *exitError) Error() string {
	if e.err == nil {
		return "exit code " + strconv.Itoa(e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// wrong is a wrong use, or a wrong app: nothing was done.
func wrong(err error) error { return &exitError{code: codeUsage, err: err} }

func wrongf(format string, args ...any) error { return wrong(fmt.Errorf(format, args...)) }

// failed is a command that did not do what it was called for.
func failed(err error) error { return &exitError{code: codeFailed, err: err} }

// interrupted ends a command that a signal ended.
func interrupted(what string) error {
	return &exitError{code: codeInterrupted, err: errors.New(what)}
}

// report draws err and returns the exit code.
func (p *program) report(err error) int {
	if err == nil {
		return codeOK
	}
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: codeUsage, err: err} // cobra's own
	}
	if e.err == nil {
		return e.code
	}
	drawError(p.err, p.paint, e.err)
	if e.hint != "" {
		fmt.Fprintln(p.err, "  "+p.paint.dim(clean(e.hint)))
	}
	return e.code
}

// drawError writes an error, a line for each of its parts.
func drawError(w io.Writer, c paint, err error) {
	lines := errorLines(err)
	for i, line := range lines {
		if i == 0 {
			fmt.Fprintf(w, "%s %s\n", c.red("error:"), line)
			continue
		}
		fmt.Fprintf(w, "  %s %s\n", c.red("-"), line)
	}
}

// errorLines are the lines of err: what was joined stands on lines of its own.
func errorLines(err error) []string {
	if drain, ok := err.(*gostream.DrainError); ok { //nolint:errorlint // the error itself, not one within
		lines := []string{fmt.Sprintf("the drain was not clean: %s", drained(drain.DrainReport))}
		for _, e := range drain.Errs {
			lines = append(lines, errorLines(e)...)
		}
		return lines
	}
	if parts, ok := joined(err); ok {
		var lines []string
		for _, part := range parts {
			lines = append(lines, errorLines(part)...)
		}
		return lines
	}
	var lines []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, clean(strings.TrimPrefix(line, "gostream: ")))
		}
	}
	if lines == nil {
		lines = []string{fmt.Sprintf("an error without a text (%T)", err)}
	}
	return lines
}

// joined are the parts of an error that says nothing but them, as that of errors.Join does.
func joined(err error) ([]error, bool) {
	j, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return nil, false
	}
	parts := j.Unwrap()
	all := errors.Join(parts...)
	return parts, all != nil && all.Error() == err.Error()
}

// drained says a drain's report in words.
func drained(r gostream.DrainReport) string {
	return fmt.Sprintf("%d finished, %d given back, %d abandoned, %d lost", r.Finished, r.GivenBack, r.Abandoned, r.Lost)
}

// clean keeps what came from elsewhere from steering the terminal.
func clean(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unprintable(r) {
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) && r != ' ' }

// fill writes text behind head, the lines after the first at the same depth; words that
// would pass the width go to the next line. head is at most depth wide, or has a space
// behind it.
func fill(w io.Writer, depth int, head, text string) {
	var line strings.Builder
	line.WriteString(head)
	if n := depth - utf8.RuneCountInString(head); n > 0 {
		line.WriteString(strings.Repeat(" ", n))
	}
	at := max(depth, utf8.RuneCountInString(head))
	begun := false
	for word := range strings.FieldsSeq(clean(text)) {
		n := utf8.RuneCountInString(word)
		switch {
		case !begun:
		case at+1+n > width:
			fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
			line.Reset()
			line.WriteString(strings.Repeat(" ", depth))
			at = depth
		default:
			line.WriteByte(' ')
			at++
		}
		line.WriteString(word)
		at += n
		begun = true
	}
	fmt.Fprintln(w, strings.TrimRight(line.String(), " "))
}

// count says n things: "1 message", "2 messages".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}
