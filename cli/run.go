package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/ops"
)

type runFlags struct {
	ops string
	log logFlags
}

func (p *program) runCommand() *cobra.Command {
	var f runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the app until a signal",
		Long: `Run the app until SIGINT or SIGTERM, then drain it: what is being handled is finished,
what is not is given back. A second signal ends the process at once.

On a terminal the log is in colours, unless NO_COLOR is set; elsewhere it is JSON. An app
that has a logger of its own keeps it.`,
		Args: takes(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error { return p.run(cmd, f) },
	}
	cmd.Flags().StringVar(&f.ops, "ops", "", "`address` of /livez, /readyz and /subscriptions, such as :8081; port 0 takes a free one")
	f.log.add(cmd)
	return cmd
}

// run is the command. The order: the app is checked, the port is taken, the app starts;
// the app is drained, the port is closed.
func (p *program) run(cmd *cobra.Command, f runFlags) error {
	if err := p.check(); err != nil {
		return err
	}
	log, asJSON, err := p.logger(cmd, f.log)
	if err != nil {
		return err
	}
	tell := p.report
	if asJSON {
		tell = func(err error) int { return logError(log, err) }
	}
	stop := func() error { return nil }
	if f.ops != "" {
		h, err := ops.New(p.app, append([]ops.Option{ops.WithLogger(log)}, p.settings.ops...)...)
		if err != nil {
			return wrong(err)
		}
		l, err := listen(cmd, f.ops)
		if err != nil {
			return told(tell, err)
		}
		stop = p.serve(h, l, log, strings.HasSuffix(f.ops, ":0"))
	}
	var began bool
	var report *gostream.DrainReport
	p.app.AfterStartup(func(context.Context) error { began = true; return nil })
	p.app.Observe(gostream.Observer{Drained: func(r gostream.DrainReport) { report = &r }})

	err = p.app.Run(cmd.Context())
	if !began && err != nil && cmd.Context().Err() != nil {
		err = interrupted("ended by a signal before the app had started")
	}
	if e := stop(); e != nil {
		err = errors.Join(err, e)
	}
	if report != nil && began && !asJSON {
		fmt.Fprintf(p.err, "drained in %v: %s\n", report.Took.Round(time.Millisecond), drained(*report))
	}
	if err == nil {
		return nil
	}
	var e *exitError
	if !errors.As(err, &e) {
		err = failed(err)
	}
	return told(tell, err)
}

// told has a failure told, and leaves its code. A wrong use is drawn for people.
func told(tell func(error) int, err error) error {
	var e *exitError
	if errors.As(err, &e) && e.code == codeUsage {
		return err
	}
	return &exitError{code: tell(err)}
}

// logError logs what ended the command, where the log is for machines.
func logError(log *slog.Logger, err error) int {
	var e *exitError
	if !errors.As(err, &e) {
		e = &exitError{code: codeFailed, err: err}
	}
	log.Error("the command failed", "exit_code", e.code, "errors", errorLines(e.err))
	return e.code
}

// listen takes the port of --ops.
func listen(cmd *cobra.Command, addr string) (net.Listener, error) {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, mistake(cmd, "ops", "an address with a port is needed, such as :8081 or 127.0.0.1:8081")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return nil, mistake(cmd, "ops", "the port must be a number from 0 to 65535")
	}
	l, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", addr)
	if err == nil {
		return l, nil
	}
	what := fmt.Sprintf("%s %q: ", given(cmd, "ops"), addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		err = fmt.Errorf("%sport %s is taken by another process: choose another one, or port 0 for any that is free", what, port)
	case errors.Is(err, syscall.EACCES):
		err = fmt.Errorf("%sport %s may not be taken by this user: choose one from 1024 on", what, port)
	default:
		err = fmt.Errorf("%s%w", what, err)
	}
	return nil, failed(err)
}

// serve answers on l until the function that it returns is called. Who asked for any port
// is told on out which one it is.
func (p *program) serve(h http.Handler, l net.Listener, log *slog.Logger, anyPort bool) (stop func() error) {
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() {
		err := server.Serve(l)
		if !errors.Is(err, http.ErrServerClosed) {
			log.Error("the ops endpoints are gone", "error", err)
		}
		served <- err
	}()
	url := "http://" + l.Addr().String()
	log.Info("ops endpoints", "url", url)
	if anyPort {
		fmt.Fprintln(p.out, "ops", url)
	}
	return func() error {
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("the ops endpoints ended: %w", err)
		}
		return nil
	}
}
