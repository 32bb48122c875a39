package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

func (p *program) describeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "describe",
		Short: "Show subscriptions, policies in words, brokers",
		Long: `Show the app as it would run: its brokers, its subscriptions with their failure policies in
words, its publishers. It opens no connection and calls no hook.`,
		Args: takes(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			d, err := p.describe()
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if asJSON {
				e := json.NewEncoder(&b)
				e.SetEscapeHTML(false)
				e.SetIndent("", "  ")
				if err := e.Encode(documentOf(d)); err != nil {
					return failed(fmt.Errorf("describe: %w", err))
				}
			} else {
				drawApp(&b, d)
			}
			if _, err := p.out.Write(b.Bytes()); err != nil {
				return failed(err)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON, for programs")
	return cmd
}

// depth is where the values begin.
const depth = 22

// drawApp writes the app for people.
func drawApp(w io.Writer, d gostream.Description) {
	fmt.Fprintln(w, clean(strings.TrimSpace(d.Name+" "+d.Version)))
	drawBrokers(w, d.Brokers)
	if len(d.Subscriptions) > 0 {
		fmt.Fprintln(w, "\nsubscriptions")
	}
	for i := range d.Subscriptions {
		drawSubscription(w, d, &d.Subscriptions[i])
	}
	if len(d.Publishers) > 0 {
		fmt.Fprintln(w, "\npublishers")
	}
	for _, pub := range d.Publishers {
		text := typeName(pub.Payload)
		if pub.Answer != nil {
			text += ", answered with " + typeName(pub.Answer)
		}
		if pub.ContentType != "" {
			text += ", " + pub.ContentType
		}
		fill(w, depth, "  "+clean(pub.Name)+" ", text+brokerOf(d, pub.Broker))
	}
}

func drawBrokers(w io.Writer, brokers []gostream.BrokerDescription) {
	fmt.Fprintln(w, "\nbrokers")
	for i, b := range brokers {
		text := strings.Join(b.Server.Hosts, ", ")
		if b.Server.Description != "" {
			text = strings.TrimPrefix(text+"; "+b.Server.Description, "; ")
		}
		if text == "" {
			text = "does not describe its server"
		}
		fill(w, depth, fmt.Sprintf("  %d  %s ", i+1, clean(b.Kind)), text)
		fill(w, depth, "", promises(b.Properties))
	}
}

// promises says properties in words.
func promises(p broker.Properties) string {
	words := []string{"at most once: it does not redeliver"}
	if p.Redelivers {
		words[0] = "at least once"
	}
	for _, w := range []struct {
		is   bool
		text string
	}{
		{p.Persistent, "survives a restart of the server"},
		{!p.Persistent, "does not survive a restart of the server"},
		{p.Backlog, "keeps what is published before the first subscription"},
		{p.Ordered, "ordered"},
		{p.OrderedByKey && !p.Ordered, "ordered by key"},
		{p.BuffersPublishes, "publishes are buffered"},
	} {
		if w.is {
			words = append(words, w.text)
		}
	}
	return strings.Join(words, "; ")
}

// brokerOf names a broker where there are several.
func brokerOf(d gostream.Description, i int) string {
	if len(d.Brokers) < 2 {
		return ""
	}
	return fmt.Sprintf(", on broker %d (%s)", i+1, d.Brokers[i].Kind)
}

func drawSubscription(w io.Writer, d gostream.Description, s *gostream.SubscriptionDescription) {
	fmt.Fprintf(w, "  %s\n", clean(s.Subscription.Name()))
	line := func(what, text string) {
		if text != "" {
			fill(w, depth, "    "+what+" ", text)
		}
	}
	from := s.Subscription.Source()
	if g := s.Subscription.Group(); g != "" {
		from += ", group " + g
	}
	line("from", from+brokerOf(d, s.Broker))
	handler := s.Handler
	if s.Payload != nil {
		handler += " " + typeName(s.Payload)
	}
	if s.Reply != nil {
		to := s.ReplyTo
		if to == "" {
			to = "the message's reply-to"
		}
		handler += ", replies " + typeName(s.Reply) + " to " + to
		if s.ReplyBroker != s.Broker {
			handler += brokerOf(d, s.ReplyBroker)
		}
	}
	line("handler", handler)
	line("content types", strings.Join(s.ContentTypes, ", "))
	if s.Batch > 0 {
		text := fmt.Sprintf("up to %d messages, waits %v to be full", s.Batch, s.BatchWait)
		if s.Transactional {
			text += ", replies in one transaction"
		}
		line("batch", text)
	}
	at := "one message at a time"
	switch {
	case s.ByKey:
		at = fmt.Sprintf("%s, each key in order", count(s.Workers, "worker"))
	case s.Workers > 1:
		at = count(s.Workers, "worker")
	case s.Batch > 0:
		at = "one batch at a time"
	}
	at += fmt.Sprintf("; at most %d unsettled", s.MaxInFlight)
	if s.Timeout > 0 {
		at += fmt.Sprintf("; timeout %v", s.Timeout)
	}
	line("runs", at)
	delivery := promises(s.Properties)
	if s.Properties == d.Brokers[s.Broker].Properties {
		delivery, _, _ = strings.Cut(delivery, ";") // the rest stands at the broker
	}
	line("delivery", delivery)
	for i, words := range s.Policy {
		what := "policy"
		if i > 0 {
			what = ""
		}
		fill(w, depth, "    "+what+" ", words)
	}
}
