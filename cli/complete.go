package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// names lists what can be completed.
type names func(p *program, d gostream.Description) []string

// complete completes by names of the app; a faulty app has none.
func (p *program) complete(of names) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		d, err := p.app.Describe()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		list := of(p, d)
		slices.Sort(list)
		list = slices.DeleteFunc(slices.Compact(list), func(name string) bool {
			return name == "" || clean(name) != name || !strings.HasPrefix(name, begun)
		})
		return list, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFirst completes the first argument only.
func (p *program) completeFirst(of names) cobra.CompletionFunc {
	complete := p.complete(of)
	return func(cmd *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, begun)
	}
}

func brokerKinds(_ *program, d gostream.Description) (list []string) {
	for _, b := range d.Brokers {
		list = append(list, b.Kind)
	}
	return list
}

// publishNames are those that the app receives from or publishes to, without patterns.
func publishNames(_ *program, d gostream.Description) (list []string) {
	add := func(i int, name string) {
		if name != "" && broker.CheckPublishName(d.Brokers[i].Broker, name) == nil {
			list = append(list, name)
		}
	}
	for _, s := range d.Subscriptions {
		add(s.Broker, s.Subscription.Source())
		add(s.ReplyBroker, s.ReplyTo)
	}
	for _, pub := range d.Publishers {
		add(pub.Broker, pub.Name)
	}
	return list
}

// deadNames are those of dead letters.
func deadNames(p *program, d gostream.Description) (list []string) {
	for _, s := range d.Subscriptions {
		list = append(list, s.DeadLetters...)
	}
	for _, src := range p.settings.dead {
		list = append(list, src.Name())
	}
	return list
}
