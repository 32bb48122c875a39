package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

type replayFlags struct {
	broker, to                string
	toSource                  bool
	filters                   []string
	match                     string
	limit                     int
	rate                      string
	wait, timeout             time.Duration
	dryRun, keepHeaders, loss bool
}

func (p *program) replayCommand() *cobra.Command {
	var f replayFlags
	cmd := &cobra.Command{
		Use:   "replay NAME (--to NAME | --to-source)",
		Short: "Publish dead letters again, then acknowledge them",
		Long: `Take the dead letters of NAME one by one, publish each to another name, then acknowledge
it. It ends at --limit, or when nothing came for the time of --wait. A message whose publish
fails stays where it is, and the command ends.

What does not match --filter and --match stays, too: it is held until the end, then given
back, so that it does not come again in between. A source holds only so many messages out at
once: a filter that leaves more than that behind ends the command.

Only the broker is connected: neither subscriptions nor hooks nor middleware of the app are
at work.`,
		Example: fmt.Sprintf("  %[1]s dead replay orders.dead --to-source --dry-run\n  %[1]s dead replay orders.dead --to orders --filter reason=undecodable --rate 50/s", p.name),
		Args:    takes(1, 1, "the name of the dead letters"),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.replay(cmd, f, args[0]) },

		ValidArgsFunction: p.completeFirst(deadNames),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.to, "to", "", "publish them to this `name`")
	flags.BoolVar(&f.toSource, "to-source", false, "publish each to the name that it came from, as its header says")
	flags.StringArrayVar(&f.filters, "filter", nil, "only those with `key=value`, or key~regexp; key is reason, error, source, subscription, attempts, time or header.KEY; several times: all must hold")
	flags.StringVar(&f.match, "match", "", "only those whose payload this `regexp` matches")
	flags.IntVar(&f.limit, "limit", 0, "replay at most so many; 0 is no limit")
	flags.StringVar(&f.rate, "rate", "", "the most in a second, minute or hour, such as `50/s` or 600/m; the default is no limit")
	flags.DurationVar(&f.wait, "wait", 2*time.Second, "end when nothing came for so long")
	flags.BoolVar(&f.dryRun, "dry-run", false, "list what would be replayed; publish and acknowledge nothing")
	flags.BoolVar(&f.keepHeaders, "keep-headers", false, "keep the headers that say why it is a dead letter")
	flags.BoolVar(&f.loss, "allow-loss", false, "replay also through a publisher that only buffers: a crash may lose messages")
	p.addBrokerFlag(cmd, &f.broker)
	addTimeoutFlag(cmd, &f.timeout)
	exclusive(cmd, "to", "to-source")
	_ = cmd.RegisterFlagCompletionFunc("to", p.complete(publishNames))
	return cmd
}

func (p *program) replay(cmd *cobra.Command, f replayFlags, name string) error {
	d, err := p.describe()
	if err != nil {
		return err
	}
	r := &replayer{program: p, d: d, name: name, flags: f}
	if err := r.parse(cmd); err != nil {
		return err
	}
	if err := r.chooseSource(cmd); err != nil {
		return err
	}
	if err := r.checkTarget(cmd); err != nil {
		return err
	}
	ctx := cmd.Context()
	if r.session, err = p.connect(ctx, d.Brokers[r.broker], f.timeout); err != nil {
		return ended(ctx, err)
	}
	err = r.subscribe(ctx)
	if err == nil {
		err = r.run(ctx)
		err = r.giveBack(err)
	}
	if e := r.session.close(); e != nil {
		err = failed(errors.Join(err, e))
	}
	r.summary(err)
	return err
}

// parse checks the flags.
func (r *replayer) parse(cmd *cobra.Command) (err error) {
	f := &r.flags
	if err := atMostOne(cmd, "to", "to-source"); err != nil {
		return err
	}
	if f.to == "" && !f.toSource {
		return wrongf("say where the messages go: --to NAME, or --to-source for where each came from")
	}
	if f.limit < 0 {
		return mistake(cmd, "limit", "it must not be negative")
	}
	if f.wait <= 0 {
		return mistake(cmd, "wait", "it must be positive")
	}
	if f.timeout <= 0 {
		return mistake(cmd, "timeout", "it must be positive")
	}
	if r.pace.interval, err = parseRate(f.rate); err != nil {
		return mistake(cmd, "rate", "%w", err)
	}
	r.filter, err = parseFilter(cmd, f.filters, f.match)
	return err
}

// chooseSource finds the broker and the source of the dead letters: one of
// [DeadLetters], else by name.
func (r *replayer) chooseSource(cmd *cobra.Command) (err error) {
	var given broker.Source
	var have []int
	for _, src := range r.settings.dead {
		if src.Name() == r.name {
			given = src
		}
	}
	for i, b := range r.d.Brokers {
		if given != nil && given.Check(b.Broker) == nil {
			have = append(have, i)
		}
	}
	if given == nil {
		have = haveName(r.d, r.name)
	}
	if r.broker, err = chooseBroker(cmd, r.d, r.flags.broker, r.name, have); err != nil {
		return err
	}
	b := r.d.Brokers[r.broker]
	if given != nil {
		if err := given.Check(b.Broker); err != nil {
			return wrong(err)
		}
		r.source = given
		spec, _ := broker.DescribeSource(given, b.Broker)
		r.limit = spec.Limit
		if !spec.Properties.Redelivers {
			return wrongf("the source %s of cli.DeadLetters does not redeliver: what is not acknowledged would be lost", broker.Quote(r.name))
		}
		return nil
	}
	const hint = "give its source with the option cli.DeadLetters, with a consumer of its own"
	r.source = broker.ByName(r.name)
	if staysInProcess(r.d, r.broker) && b.Properties.Backlog {
		return inProcessOnly(r.d, r.broker)
	}
	if err := r.source.Check(b.Broker); err != nil {
		return &exitError{codeUsage, err, hint}
	}
	if !b.Properties.Backlog || !b.Properties.Redelivers {
		return &exitError{codeUsage, fmt.Errorf("by name, %s keeps no backlog of %s that could be acknowledged", clean(b.Kind), broker.Quote(r.name)), hint}
	}
	return nil
}

// checkTarget refuses a name that nothing can be published to, and one that comes back.
func (r *replayer) checkTarget(cmd *cobra.Command) error {
	if r.flags.toSource {
		return nil
	}
	_, err := r.target(r.flags.to)
	var e *exitError
	if errors.As(err, &e) {
		return err
	}
	if err != nil {
		return wrong(fmt.Errorf("%s: %w", given(cmd, "to"), err))
	}
	return nil
}

// subscribe opens the source.
func (r *replayer) subscribe(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, r.flags.timeout)
	defer cancel()
	sub, err := r.source.Subscribe(bounded, r.session.b)
	if err != nil {
		return ended(ctx, fmt.Errorf("subscribe %s: %w", broker.Quote(r.name), err))
	}
	r.sub = sub
	return nil
}

// deadHeaders are those that a dead letter has besides its own.
var deadHeaders = []string{
	gostream.HeaderDeadReason, gostream.HeaderDeadError, gostream.HeaderDeadSource,
	gostream.HeaderDeadSubscription, gostream.HeaderDeadAttempts, gostream.HeaderDeadTime,
}
