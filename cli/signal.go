package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// withSignals executes args with a context that the first SIGINT or SIGTERM ends. The
// second ends the process.
func (p *program) withSignals(args []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ended := make(chan struct{})
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-signals:
		case <-ended:
			return
		}
		if p.errTerminal {
			fmt.Fprintln(p.err, "ending; a second signal ends the process at once")
		}
		cancel()
		select {
		case <-signals:
			fmt.Fprintln(p.err, p.paint.red("error:"), "a second signal: ended at once, without waiting for what was in hand")
			os.Exit(codeInterrupted)
		case <-ended:
		}
	}()
	code := p.execute(ctx, args)
	signal.Stop(signals)
	close(ended)
	<-watched
	return code
}
