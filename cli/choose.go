package cli

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// addBrokerFlag adds --broker.
func (p *program) addBrokerFlag(cmd *cobra.Command, to *string) {
	cmd.Flags().StringVar(to, "broker", "", "the `number` or kind of the broker, as describe shows them; the default is the one that has NAME")
	_ = cmd.RegisterFlagCompletionFunc("broker", p.complete(brokerKinds))
}

// chooseBroker returns the index of the broker that a command works on: what --broker says,
// the only one, or the only one of those that have the name.
func chooseBroker(cmd *cobra.Command, d gostream.Description, flag, name string, have []int) (int, error) {
	if flag != "" {
		return brokerByFlag(cmd, d, flag)
	}
	switch {
	case len(d.Brokers) == 1:
		return 0, nil
	case len(have) == 1:
		return have[0], nil
	case len(have) == 0:
		have = make([]int, len(d.Brokers))
		for i := range have {
			have[i] = i
		}
		return 0, wrong(errors.Join(fmt.Errorf("no subscription or publisher of the app has the name %s: say with --broker which broker is meant", broker.Quote(name)), brokerList(d, have)))
	}
	return 0, wrong(errors.Join(fmt.Errorf("several brokers have the name %s: say with --broker which one is meant", broker.Quote(name)), brokerList(d, have)))
}

func brokerByFlag(cmd *cobra.Command, d gostream.Description, flag string) (int, error) {
	all := make([]int, len(d.Brokers))
	for i := range all {
		all[i] = i
	}
	if n, err := strconv.Atoi(flag); err == nil {
		if n < 1 || n > len(d.Brokers) {
			return 0, wrong(errors.Join(fmt.Errorf("%s %q: there is no broker of that number", given(cmd, "broker"), flag), brokerList(d, all)))
		}
		return n - 1, nil
	}
	of := slices.DeleteFunc(slices.Clone(all), func(i int) bool { return d.Brokers[i].Kind != flag })
	switch len(of) {
	case 1:
		return of[0], nil
	case 0:
		return 0, wrong(errors.Join(fmt.Errorf("%s %q: there is no broker of that kind", given(cmd, "broker"), flag), brokerList(d, all)))
	}
	return 0, wrong(errors.Join(fmt.Errorf("%s %q: several brokers are of that kind: give the number", given(cmd, "broker"), flag), brokerList(d, of)))
}

// brokerList lists brokers, a line each.
func brokerList(d gostream.Description, which []int) error {
	var errs []error
	for _, i := range which {
		b := d.Brokers[i]
		where := strings.Join(b.Server.Hosts, ", ")
		if where == "" {
			where = b.Server.Description
		}
		errs = append(errs, errors.New(strings.TrimSpace(fmt.Sprintf("--broker %d  %s  %s", i+1, b.Kind, where))))
	}
	return errors.Join(errs...)
}

// publisherTo returns the publisher for name on broker i: the one that matches a source
// which receives it, or whose dead letters or replies go there, else fallback's, else the
// broker's default. buffers says that a nil of its Publish promises little.
func publisherTo(d gostream.Description, i int, name string, fallback broker.Source) (pub broker.Publisher, buffers bool, err error) {
	b := d.Brokers[i].Broker
	var sources []broker.Source
	for _, receives := range []bool{true, false} {
		for k := range d.Subscriptions {
			s := &d.Subscriptions[k]
			if s.Broker == i && (receives && receivesName(d, s, name) || !receives && sendsTo(s, i, name)) {
				sources = append(sources, s.Source)
			}
		}
		if len(sources) > 0 {
			break // who receives it knows best
		}
	}
	if sources == nil && fallback != nil {
		sources = []broker.Source{fallback}
	}
	for _, src := range sources {
		if m, ok := src.(broker.PublisherMatcher); ok {
			if pub := m.Publisher(b); pub != nil {
				spec, _ := broker.DescribeSource(src, b)
				return pub, spec.Properties.BuffersPublishes, nil
			}
		}
	}
	pub, ok := broker.DefaultPublisher(b)
	if !ok {
		return nil, false, wrongf("nothing can be published on %s: it has no publisher", d.Brokers[i].Kind)
	}
	return pub, broker.PropertiesOf(b).BuffersPublishes, nil
}

// receivesName reports whether s receives what is published to name.
func receivesName(d gostream.Description, s *gostream.SubscriptionDescription, name string) bool {
	return broker.Matches(s.Source, d.Brokers[s.Broker].Broker, name)
}

// sendsTo reports whether replies or dead letters of s go to name on broker i.
func sendsTo(s *gostream.SubscriptionDescription, i int, name string) bool {
	return s.ReplyBroker == i && s.Reply != nil && s.ReplyTo == name || s.Broker == i && slices.Contains(s.DeadLetters, name)
}

// haveName are the brokers on which the app receives name or publishes to it.
func haveName(d gostream.Description, name string) []int {
	var have []int
	for k := range d.Subscriptions {
		s := &d.Subscriptions[k]
		for i := range d.Brokers {
			if s.Broker == i && receivesName(d, s, name) || sendsTo(s, i, name) {
				have = append(have, i)
			}
		}
	}
	for _, pub := range d.Publishers {
		if pub.Name == name {
			have = append(have, pub.Broker)
		}
	}
	slices.Sort(have)
	return slices.Compact(have)
}

// staysInProcess reports a broker whose messages another process never sees: it names no
// server, and nothing of it is kept.
func staysInProcess(d gostream.Description, i int) bool {
	b := d.Brokers[i]
	kept := b.Properties.Persistent || slices.ContainsFunc(d.Subscriptions, func(s gostream.SubscriptionDescription) bool {
		return s.Broker == i && s.Properties.Persistent
	})
	return !kept && len(b.Server.Hosts) == 0
}

// inProcessOnly refuses such a broker.
func inProcessOnly(d gostream.Description, i int) error {
	kind := d.Brokers[i].Kind
	return wrongf("the messages of broker %d (%s) live in the process that runs the app: it names no server that a command of its own could reach", i+1, kind)
}
