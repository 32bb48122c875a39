package gostream

import (
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// HandleOption configures one subscription: an argument of [Router.Handle] and
// [Router.HandleSource].
type HandleOption interface{ applyHandle(*settings) }

// RouterOption configures a [Router]: a default for its subscriptions.
type RouterOption interface{ applyRouter(*settings) }

// AppOption configures an [App]: a setting of its own, or a default for all its
// subscriptions.
type AppOption interface{ applyApp(*appSettings) }

// Option configures a subscription, or is a default for those of a router or an
// app. What stands nearer to the subscription wins; rules of [OnError] and
// [Codecs] add up, the nearer ones first.
type Option interface {
	HandleOption
	RouterOption
	AppOption
}

// CodecOption is an [Option] that configures publishers and requesters too.
type CodecOption interface {
	Option
	PublisherOption
}

// DefaultShutdownTimeout is how long handlers may take to finish at shutdown.
const DefaultShutdownTimeout = 25 * time.Second

// shutdownGrace is what is left after that for hooks, flush and close.
const shutdownGrace = 3 * time.Second

// minMaxInFlight is the least default of MaxInFlight.
const minMaxInFlight = 64

// Named gives the subscription its identity in logs, health, pause and
// dead letters. The default is the source's name. Identities are unique in an app.
func Named(name string) HandleOption {
	return handleOption(func(s *settings) {
		s.name.set(name)
		if name == "" {
			s.bad("Named(%q): the name is empty", name)
		}
	})
}

// Workers sets how many messages of the subscription are handled at once. The
// default is 1: one after the other. n must be at least 1. With more than one,
// messages may overtake each other.
func Workers(n int) Option {
	return option(func(s *settings) {
		s.workers.set(n)
		if n < 1 {
			s.bad("Workers(%d): at least 1 is needed", n)
		}
	})
}

// ByKey handles the messages of one partition key in order, one after the other,
// also across a retry: while a message of the key waits for its retry, the later
// ones of the key wait too, and other keys go on until MaxInFlight is full. Messages
// without a key take turns over the workers. Up to Workers(n) keys are handled at
// once. On a transport without keys it is a start error. It does not apply to batch
// handlers.
func ByKey() HandleOption {
	return handleOption(func(s *settings) { s.byKey.set(true) })
}

// MaxInFlight bounds how many deliveries of the subscription are unsettled at
// once: those being handled and those that wait for a retry. The default is four
// times the workers (of a batch handler, times the batch), at least 64, clamped to
// the source's limit. n must be at least the number of workers, and the size of a
// batch, and at most the source's limit.
func MaxInFlight(n int) Option {
	return option(func(s *settings) {
		s.maxInFlight.set(n)
		if n < 1 {
			s.bad("MaxInFlight(%d): at least 1 is needed", n)
		}
	})
}

// Timeout bounds each call of the handler's function: its context is cancelled
// with the cause [ErrHandlerTimeout]. It bounds neither the reply's publish nor
// the settlement. The default is no timeout. d must be positive.
func Timeout(d time.Duration) Option {
	return option(func(s *settings) {
		s.timeout.set(d)
		if d <= 0 {
			s.bad("Timeout(%v): it must be positive; leave it out for none", d)
		}
	})
}

// OnError adds rules to the failure policy. They are tried in order, those of the
// subscription before those of its router before those of the app; the first
// match decides.
func OnError(rules ...PolicyRule) Option {
	return option(func(s *settings) {
		if len(rules) == 0 {
			s.bad("OnError(): at least one rule is needed")
		}
		for _, r := range rules {
			if r == nil {
				s.bad("OnError(nil): begin a rule with Is, As or AnyError")
				continue
			}
			s.rules = append(s.rules, r.policyRule())
		}
	})
}

// RetryBackoff sets the schedule for failures that no rule matches; publishes that the
// runtime repeats, and lost subscriptions, have a schedule of their own. The default is
// Exponential(DefaultRetryInitial, DefaultRetryMax). A limit of attempts needs a
// [DeadLetterTo] to come after it; it then replaces [DefaultAttempts].
func RetryBackoff(b Backoff) Option {
	return option(func(s *settings) {
		s.retry.set(b)
		if err := b.check(); err != nil {
			s.errs = append(s.errs, err)
		}
	})
}

// DeadLetterTo declares where a message goes that cannot be processed: after
// [DefaultAttempts] attempts, and at once where its payload cannot be decoded. A
// copy is published to name, then the message is acknowledged. The default is
// none: failed messages are then retried without end.
func DeadLetterTo(name string) Option {
	return option(func(s *settings) {
		s.deadLetter.set(name)
		if name == "" {
			s.bad("DeadLetterTo(%q): the name is empty", name)
		}
	})
}

// NoDeadLetter takes back the DeadLetterTo of an outer level: that of the router or the
// app does not hold here.
func NoDeadLetter() Option {
	return option(func(s *settings) { s.deadLetter.set("") })
}

// OnPanic says what a panic does. The default is [PanicAsError].
func OnPanic(p PanicPolicy) Option {
	return option(func(s *settings) {
		s.panics.set(p)
		if p != PanicAsError && p != PanicFailFast {
			s.bad("OnPanic(%d): unknown policy", int(p))
		}
	})
}

// OnUndecodable says what happens to a payload that cannot be decoded. The default
// is [UndecodableKeep].
func OnUndecodable(p UndecodablePolicy) Option {
	return option(func(s *settings) {
		s.undecodable.set(p)
		if p != UndecodableKeep && p != UndecodableReject {
			s.bad("OnUndecodable(%d): unknown policy", int(p))
		}
	})
}

// OnSubscriptionLost says what happens when receiving fails for good. The default
// is [LostReopen].
func OnSubscriptionLost(p LostPolicy) Option {
	return option(func(s *settings) {
		s.lost.set(p)
		if p != LostReopen && p != LostFailFast {
			s.bad("OnSubscriptionLost(%d): unknown policy", int(p))
		}
	})
}

// WithCodec sets the codec for payloads without a content type, and for replies.
// The default is [JSON].
func WithCodec(c Codec) CodecOption {
	return codecOption{func(s *settings) {
		s.errs = append(s.errs, checkCodec("WithCodec", c)...)
		if !isNil(c) {
			s.codec.set(c)
		}
	}}
}

// Codecs adds codecs for messages that declare their content type. The main codec
// needs not be listed; of two for one content type the nearer, then the first wins.
func Codecs(codecs ...Codec) CodecOption {
	return codecOption{func(s *settings) {
		for _, c := range codecs {
			s.errs = append(s.errs, checkCodec("Codecs", c)...)
			if !isNil(c) {
				s.codecs = append(s.codecs, c)
			}
		}
	}}
}

// AllowLoss lets replies and dead letters of a subscription that redelivers go
// through a publisher that only buffers: in a crash the copy may be lost although
// the message was acknowledged. Without it that is a start error.
func AllowLoss() Option {
	return option(func(s *settings) { s.allowLoss.set(true) })
}

// WithLogger sets the logger. The default is slog.Default, asked at start.
func WithLogger(l *slog.Logger) AppOption {
	return appOption(func(s *appSettings) {
		s.logger = l
		if l == nil {
			s.defaults.bad("WithLogger(nil): a logger is needed; leave the option out for slog.Default")
		}
	})
}

// ShutdownTimeout is how long handlers may take to finish at shutdown; then their
// contexts are cancelled and 3 s are left for hooks, flush and close. The default
// is [DefaultShutdownTimeout]. d must be positive.
func ShutdownTimeout(d time.Duration) AppOption {
	return appOption(func(s *appSettings) {
		s.shutdownTimeout = d
		if d <= 0 {
			s.defaults.bad("ShutdownTimeout(%v): it must be positive", d)
		}
	})
}

// setting is a value that may be unset.
type setting[T any] struct {
	value T
	isSet bool
}

func (s *setting[T]) set(v T) { s.value, s.isSet = v, true }

// or returns s where it is set, else outer.
func (s setting[T]) or(outer setting[T]) setting[T] {
	if s.isSet {
		return s
	}
	return outer
}

// get returns the value, or the default where it is unset.
func (s setting[T]) get(byDefault T) T {
	if s.isSet {
		return s.value
	}
	return byDefault
}

// settings are what options of one level say.
type settings struct {
	name        setting[string]
	workers     setting[int]
	byKey       setting[bool]
	maxInFlight setting[int]
	timeout     setting[time.Duration]
	deadLetter  setting[string]
	retry       setting[Backoff]
	panics      setting[PanicPolicy]
	undecodable setting[UndecodablePolicy]
	lost        setting[LostPolicy]
	codec       setting[Codec]
	allowLoss   setting[bool]
	rules       []Rule
	codecs      []Codec
	errs        []error
}

func (s *settings) bad(format string, args ...any) {
	s.errs = append(s.errs, fmt.Errorf(format, args...))
}

// within returns s with what outer says where s says nothing. Mistakes stay with
// the level at which they were made.
func (s settings) within(outer settings) settings {
	s.workers = s.workers.or(outer.workers)
	s.maxInFlight = s.maxInFlight.or(outer.maxInFlight)
	s.timeout = s.timeout.or(outer.timeout)
	s.deadLetter = s.deadLetter.or(outer.deadLetter)
	s.retry = s.retry.or(outer.retry)
	s.panics = s.panics.or(outer.panics)
	s.undecodable = s.undecodable.or(outer.undecodable)
	s.lost = s.lost.or(outer.lost)
	s.codec = s.codec.or(outer.codec)
	s.allowLoss = s.allowLoss.or(outer.allowLoss)
	s.rules = append(s.rules[:len(s.rules):len(s.rules)], outer.rules...)
	s.codecs = append(s.codecs[:len(s.codecs):len(s.codecs)], outer.codecs...)
	return s
}

// mainCodec is the codec for payloads without a content type: what WithCodec says, else
// the nearest one for JSON among Codecs, else [JSON].
func (s *settings) mainCodec() Codec {
	if s.codec.isSet {
		return s.codec.value
	}
	for _, c := range s.codecs {
		if mediaType(c.ContentType()) == mediaType(JSON.ContentType()) {
			return c
		}
	}
	return JSON
}

// appSettings are what options of an app say.
type appSettings struct {
	defaults        settings
	logger          *slog.Logger
	shutdownTimeout time.Duration
}

type option func(*settings)

func (o option) applyHandle(s *settings) { o(s) }
func (o option) applyRouter(s *settings) { o(s) }
func (o option) applyApp(s *appSettings) { o(&s.defaults) }

// codecOption is an option for publishers too.
type codecOption struct{ option }

func (o codecOption) applyPublisher(p *port) {
	var s settings
	o.option(&s)
	p.errs = append(p.errs, s.errs...)
	if s.codec.isSet {
		p.codec = s.codec.value
	}
	p.extra = append(p.extra, s.codecs...)
}

type handleOption func(*settings)

func (o handleOption) applyHandle(s *settings) { o(s) }

type appOption func(*appSettings)

func (o appOption) applyApp(s *appSettings) { o(s) }

var errNilOption = errors.New("an option is nil")

func applyHandleOptions(s *settings, opts []HandleOption) {
	for _, o := range opts {
		if o == nil {
			s.errs = append(s.errs, errNilOption)
			continue
		}
		o.applyHandle(s)
	}
}
