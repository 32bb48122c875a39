package cli

import (
	"errors"

	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/ops"
)

// Option configures [Main] and [Run]. Options of one kind add up.
type Option interface{ apply(*settings) }

type option func(*settings)

func (o option) apply(s *settings) { o(s) }

// settings are what the options say.
type settings struct {
	ops      []ops.Option
	asyncapi []asyncapi.Option
	dead     []broker.Source
	errs     []error
}

// OpsOptions are given to [ops.New] where run is called with --ops. With [ops.Control] the
// endpoints that pause and resume exist: there is no flag for them, since only the program
// can say who may use them. Without it there are the probes and the list. The default
// logger is the one of the app.
func OpsOptions(opts ...ops.Option) Option {
	return option(func(s *settings) { s.ops = append(s.ops, opts...) })
}

// AsyncAPIOptions are given to [asyncapi.Document] by asyncapi gen: the title, a
// description, the servers in production. Its flag --version beats [asyncapi.Version].
func AsyncAPIOptions(opts ...asyncapi.Option) Option {
	return option(func(s *settings) { s.asyncapi = append(s.asyncapi, opts...) })
}

// DeadLetters are the sources that dead replay reads dead letters from: each by its Name.
// A source needs a consumer of its own, which remembers what was acknowledged, such as
//
//	nats.Stream("orders.dead", "DEAD").Durable("replay")
//	kafka.Topic("orders.dead").Group("replay")
//
// Without one the dead letter is subscribed to by name, where the broker keeps a backlog
// for that. A source that no broker of the app accepts, and two of one name, are mistakes
// that check reports, as run and dead replay do.
func DeadLetters(sources ...broker.Source) Option {
	return option(func(s *settings) {
		for _, src := range sources {
			if src == nil {
				s.errs = append(s.errs, errors.New("cli.DeadLetters: a source is nil"))
				continue
			}
			s.dead = append(s.dead, src)
		}
	})
}
