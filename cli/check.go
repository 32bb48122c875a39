package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

func (p *program) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Find the app's mistakes, without a broker",
		Long: `Find everything that can be wrong before a connection is made: each mistake is a line, and
the exit code is 2. It opens no connection and calls no hook.`,
		Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			d, err := p.describe()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(p.out, "ok: %s: %s, %s, %s; no connection was made\n", p.title(),
				count(len(d.Brokers), "broker"), count(len(d.Subscriptions), "subscription"), count(len(d.Publishers), "publisher")); err != nil {
				return failed(err)
			}
			return nil
		},
	}
}

// check reports the mistakes of the app and of the options.
func (p *program) check() error {
	_, err := p.describe()
	return err
}

// describe returns the app as data, or its mistakes and those of the options.
func (p *program) describe() (gostream.Description, error) {
	d, err := p.app.Describe()
	errs := append([]error{err}, p.settings.errs...)
	if err == nil {
		errs = append(errs, p.deadMistakes(d)...)
	}
	if err := errors.Join(errs...); err != nil {
		return d, wrong(err)
	}
	return d, nil
}

// deadMistakes are those of the sources for dead letters.
func (p *program) deadMistakes(d gostream.Description) []error {
	var errs []error
	seen := make(map[string]bool)
	for _, src := range p.settings.dead {
		name := src.Name()
		if seen[name] {
			errs = append(errs, fmt.Errorf("cli.DeadLetters: two sources are called %s", broker.Quote(name)))
		}
		seen[name] = true
		var refusals []error
		taken := false
		for _, b := range d.Brokers {
			if err := src.Check(b.Broker); err != nil {
				refusals = append(refusals, err)
				continue
			}
			taken = true
		}
		if !taken {
			errs = append(errs, fmt.Errorf("cli.DeadLetters: no broker of the app takes the source %s: %w", broker.Quote(name), errors.Join(refusals...)))
		}
	}
	return errs
}
