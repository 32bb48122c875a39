package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

type publishFlags struct {
	broker, data, file string
	key, contentType   string
	headers            []string
	lines, noCheck     bool
	timeout            time.Duration
}

func (p *program) publishCommand() *cobra.Command {
	var f publishFlags
	cmd := &cobra.Command{
		Use:   "publish NAME [-]",
		Short: "Publish a message, or one for each line",
		Long: `Publish a message to NAME: a subject, topic or queue. Its payload is --data, the file of
--file, or for "-" the standard input, byte for byte; with --lines each line that is not
empty is a message, without its line end.

Only the broker is connected: no subscription is opened, and neither hooks nor middleware of
the app are called. A payload that a subscription of the app could not decode is refused;
--no-check publishes it all the same.`,
		Example: fmt.Sprintf("  %s publish orders --data '{\"id\":1}' --header tenant=acme --key 1\n  %s publish orders --lines - <orders.ndjson", p.name, p.name),
		Args:    takes(1, 2, "the name to publish to, and - for the standard input"),
		RunE:    func(cmd *cobra.Command, args []string) error { return p.publish(cmd, f, args) },

		ValidArgsFunction: p.completeFirst(publishNames),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.data, "data", "", "the payload as `text`")
	flags.StringVar(&f.file, "file", "", "the `file` with the payload; - is the standard input")
	flags.BoolVar(&f.lines, "lines", false, "each line is a message")
	flags.StringArrayVar(&f.headers, "header", nil, "a header, as `key=value`; several times for several")
	flags.StringVar(&f.contentType, "content-type", "", "the media `type` of the payload; the default is what the app says of NAME")
	flags.StringVar(&f.key, "key", "", "the partition `key`")
	flags.BoolVar(&f.noCheck, "no-check", false, "publish also what no subscription could decode")
	p.addBrokerFlag(cmd, &f.broker)
	addTimeoutFlag(cmd, &f.timeout)
	exclusive(cmd, "data", "file")
	return cmd
}

func (p *program) publish(cmd *cobra.Command, f publishFlags, args []string) error {
	d, err := p.describe()
	if err != nil {
		return err
	}
	name := args[0]
	headers, err := f.parse(cmd)
	if err != nil {
		return err
	}
	open, err := p.input(cmd, f, args[1:])
	if err != nil {
		return err
	}
	i, err := chooseBroker(cmd, d, f.broker, name, haveName(d, name))
	if err != nil {
		return err
	}
	if staysInProcess(d, i) {
		return inProcessOnly(d, i)
	}
	if err := broker.CheckPublishName(d.Brokers[i].Broker, name); err != nil {
		return wrong(err)
	}
	pub, _, err := publisherTo(d, i, name, nil)
	if err != nil {
		return err
	}
	if headers.ContentType() == "" {
		headers = headers.WithContentType(contentTypeOf(d, i, name))
	}
	in, err := open()
	if err != nil {
		return failed(err)
	}
	defer in.close()

	job := publishing{
		message: broker.OutgoingMessage{Name: name, Headers: headers}, pub: pub,
		check: func(payload []byte) error { return checkPayload(d, i, name, headers.ContentType(), payload) },
	}
	if f.noCheck {
		job.check = func([]byte) error { return nil }
	}
	if cmd.Flags().Changed("key") {
		job.message.Key = []byte(f.key)
	}
	run := job.one
	if f.lines {
		run = job.each
	}
	err = run(cmd.Context(), in, func() (*session, error) { return p.connect(cmd.Context(), d.Brokers[i], f.timeout) })
	if job.session != nil {
		if e := job.session.close(); e != nil {
			err = failed(errors.Join(err, e))
		}
	}
	if err == nil || job.done > 0 {
		fmt.Fprintf(p.out, "published %s to %s on %s\n", count(job.done, "message"), broker.Quote(name), clean(d.Brokers[i].Kind))
	}
	return err
}

// publishing is a publish command at work.
type publishing struct {
	message broker.OutgoingMessage // all but the payload
	pub     broker.Publisher
	check   func(payload []byte) error
	session *session // nil until it is connected
	done    int
}

// one publishes the whole input. It connects when the payload is known to be good.
func (j *publishing) one(ctx context.Context, in *input, connect func() (*session, error)) error {
	payload, err := in.whole(ctx)
	if err != nil {
		return err
	}
	if err := j.check(payload); err != nil {
		return wrong(err)
	}
	if j.session, err = connect(); err != nil {
		return ended(ctx, err)
	}
	if err := j.send(ctx, payload); err != nil {
		return failed(err)
	}
	return nil
}

// each publishes line by line, as they come.
func (j *publishing) each(ctx context.Context, in *input, connect func() (*session, error)) error {
	var err error
	if j.session, err = connect(); err != nil {
		return ended(ctx, err)
	}
	for {
		line, err := in.line(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err = j.check(line); err == nil {
			err = j.send(ctx, line)
		}
		if err != nil {
			return failed(fmt.Errorf("line %d: %w", in.number, err))
		}
	}
}

func (j *publishing) send(ctx context.Context, payload []byte) error {
	m := j.message
	m.Payload = payload
	if err := j.session.publish(ctx, j.pub, m); err != nil {
		return err
	}
	j.done++
	return nil
}

// ended is err of a call that ctx bounds: interrupted where a signal ended it.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return interrupted("ended by a signal")
	}
	return failed(err)
}

// parse reads the headers and checks the times.
func (f *publishFlags) parse(cmd *cobra.Command) (broker.Headers, error) {
	var h broker.Headers
	if f.timeout <= 0 {
		return h, mistake(cmd, "timeout", "it must be positive")
	}
	for _, header := range f.headers {
		key, value, ok := strings.Cut(header, "=")
		if !ok || key == "" {
			return h, wrongf("%s %q: a header is key=value", given(cmd, "header"), header)
		}
		h = h.WithAdded(key, value)
	}
	if f.contentType != "" {
		if h.ContentType() != "" {
			return h, wrongf("%s together with the header %s: give one of them", given(cmd, "content-type"), broker.HeaderContentType)
		}
		h = h.WithContentType(f.contentType)
	}
	return h, nil
}

// contentTypeOf is what the app says that the payloads of name are; "" for nothing.
func contentTypeOf(d gostream.Description, i int, name string) string {
	for k := range d.Subscriptions {
		s := &d.Subscriptions[k]
		if s.Broker == i && len(s.ContentTypes) > 0 && receivesName(d, s, name) {
			return s.ContentTypes[0]
		}
	}
	for _, pub := range d.Publishers {
		if pub.Broker == i && pub.Name == name && pub.ContentType != "" {
			return pub.ContentType
		}
	}
	return ""
}
