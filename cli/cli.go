package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/gostream/gostream"
)

// The exit codes, as docs/cli.md explains them.
const (
	codeOK          = 0
	codeFailed      = 1
	codeUsage       = 2
	codeInterrupted = 130
)

// Main is the program: it runs the command of os.Args and ends the process with its exit
// code. SIGINT and SIGTERM end the command: run drains the app. A second signal ends the
// process at once, with code 130. Where the app has no logger of its own, run makes one
// also slog's default.
func Main(app *gostream.App, opts ...Option) {
	name := strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe")
	p := newProgram(name, app, Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, opts)
	p.owner = true
	os.Exit(p.withSignals(os.Args[1:]))
}

// Streams are what a command reads, writes and looks up.
type Streams struct {
	// In is read by publish. nil is empty.
	In io.Reader
	// Out gets what was asked for, Err the log and the errors. nil drops it. What is
	// an *os.File and a terminal gets colours and logs for people.
	Out, Err io.Writer
	// Getenv looks up environment variables. nil is os.Getenv.
	Getenv func(name string) string
}

// Run is [Main] for tests: it runs the command of args, which do not begin with the name
// of the program, and returns the exit code. In place of the signals it takes the end of
// ctx; it leaves slog's default alone. In usage texts the program is called by the app's
// name. As an app starts once, so does its run command.
func Run(ctx context.Context, app *gostream.App, args []string, s Streams, opts ...Option) int {
	name := "app"
	if app != nil && app.Name() != "" {
		name = strings.Join(strings.Fields(app.Name()), "-")
	}
	return newProgram(name, app, s, opts).execute(ctx, args)
}

// program is one call of the command line.
type program struct {
	app      *gostream.App
	name     string // of the binary
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	settings settings
	owner    bool // the process is this program's

	errTerminal bool  // err is a terminal
	paint       paint // of err
}

func newProgram(name string, app *gostream.App, s Streams, opts []Option) *program {
	p := &program{app: app, name: name, in: s.In, out: s.Out, err: s.Err, getenv: s.Getenv}
	if p.in == nil {
		p.in = new(bytes.Reader)
	}
	if p.out == nil {
		p.out = io.Discard
	}
	if p.err == nil {
		p.err = io.Discard
	}
	if p.getenv == nil {
		p.getenv = os.Getenv
	}
	p.errTerminal = isTerminal(p.err)
	p.paint = paint(p.errTerminal && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb")
	if app == nil {
		p.settings.errs = append(p.settings.errs, errors.New("cli: the app is nil"))
	}
	for _, o := range opts {
		if o == nil {
			p.settings.errs = append(p.settings.errs, errors.New("cli: an option is nil"))
			continue
		}
		o.apply(&p.settings)
	}
	return p
}

// execute runs the command of args and returns the exit code.
func (p *program) execute(ctx context.Context, args []string) int {
	if args == nil {
		args = []string{} // cobra would take os.Args
	}
	if p.app == nil {
		return p.report(wrong(errors.Join(p.settings.errs...)))
	}
	root := p.command()
	root.SetArgs(args)
	return p.report(root.ExecuteContext(ctx))
}
