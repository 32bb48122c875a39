package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream/asyncapi/viewer"
)

// defaultListen is the address of "asyncapi serve".
const defaultListen = "127.0.0.1:8484"

func newServe() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "serve [DIR|FILE]",
		Short: "Show an AsyncAPI document in a browser",
		Long: `Show the AsyncAPI document of the service in DIR, by default this folder, or the one in
FILE, JSON or YAML, as a page. Each time that the page is loaded the service is built
anew, if its source has changed, or the file is read anew. The page needs no network.`,
		Args: between(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return serve(cmd.Context(), cmd.OutOrStdout(), first(args), listen)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", defaultListen, "`address` of the page; port 0 takes a free one")
	return cmd
}

// serve serves the page until a signal comes. What is wrong with the document at first ends
// it; what goes wrong later is shown on the page.
func serve(ctx context.Context, stdout io.Writer, arg, listen string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	src, err := openSource(ctx, arg)
	if err != nil {
		return err
	}
	defer src.close()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w: give it another address, such as 127.0.0.1:0", listen, plainListen(err))
	}
	defer l.Close()
	if _, err := src.load(ctx); err != nil {
		if ctx.Err() != nil {
			return interrupted(syscall.SIGINT)
		}
		return err
	}
	server := &http.Server{
		Handler: viewer.Handler(func(ctx context.Context) ([]byte, error) {
			spec, err := src.load(ctx)
			if err != nil {
				return nil, err
			}
			return spec.JSON()
		}),
		ReadHeaderTimeout: 10 * time.Second,
	}
	fmt.Fprintf(stdout, "the AsyncAPI document of %s: http://%s/\n", arg, l.Addr())
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	// A build for a page that somebody waits for is not worth waiting for.
	if err := server.Close(); err != nil {
		return err
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// plainListen is what went wrong, without the address that stands before it already.
func plainListen(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		if sys := (*os.SyscallError)(nil); errors.As(op.Err, &sys) {
			return sys.Err
		}
		return op.Err
	}
	return err
}
