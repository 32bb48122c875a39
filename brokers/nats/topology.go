package nats

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/broker"
)

// inactiveThreshold is how long the server keeps a consumer without a durable name
// that nobody uses.
const inactiveThreshold = 5 * time.Minute

// consumer is what a subscription pulls from.
type consumer struct {
	stream, name string
	created      time.Time // another one of this name is not it
	streamMade   time.Time // the same of the stream
	durable      bool
	ackWait      time.Duration
	inactive     time.Duration // how long the server keeps it when nobody uses it; 0 for ever
	maxBatch     int           // how many messages one request may ask for; 0 for any number
	maxExpires   time.Duration // how long one request may wait; 0 for any time
	next         string        // the subject of requests
}

// topology finds the stream and the consumer of src, and makes what may be made.
func (b *Broker) topology(ctx context.Context, c *connection, src *StreamSource) (*consumer, error) {
	stream, err := findStream(ctx, c.js, src)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	if err := src.checkStream(&info.Config); err != nil {
		return nil, err
	}
	if src.ordered && src.policy == jetstream.DeliverNewPolicy {
		// A consumer that must be made anew begins at the same place.
		*src = src.StartSequence(info.State.LastSeq + 1)
	}
	made, err := findConsumer(ctx, c.js, src)
	if err != nil {
		return nil, err
	}
	if src.ordered && src.policy == jetstream.DeliverLastPolicy {
		*src = src.StartSequence(made.Delivered.Stream + 1) // the same
	}
	return b.handle(c, made, src, info.Created), nil
}

// handle is what a subscription needs to know of a consumer.
func (b *Broker) handle(c *connection, info *jetstream.ConsumerInfo, src *StreamSource, streamMade time.Time) *consumer {
	return &consumer{
		stream: info.Stream, name: info.Name, durable: src.durable != "",
		created: info.Created, streamMade: streamMade,
		ackWait:  info.Config.AckWait,
		inactive: info.Config.InactiveThreshold,
		maxBatch: info.Config.MaxRequestBatch, maxExpires: info.Config.MaxRequestExpires,
		next: fmt.Sprintf("%sCONSUMER.MSG.NEXT.%s.%s", b.apiPrefix(c), info.Stream, info.Name),
	}
}

// apiPrefix is what the subjects of the server's API begin with.
func (b *Broker) apiPrefix(c *connection) string {
	prefix := c.js.Options().APIPrefix
	if b.config.domain != "" {
		prefix = "$JS." + b.config.domain + ".API."
	}
	if prefix == "" {
		prefix = jetstream.DefaultAPIPrefix
	}
	if !strings.HasSuffix(prefix, ".") {
		prefix += "."
	}
	return prefix
}

func findStream(ctx context.Context, js jetstream.JetStream, src *StreamSource) (jetstream.Stream, error) {
	stream, err := js.Stream(ctx, src.stream)
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	if src.create == nil {
		return nil, fmt.Errorf("there is no stream %s: create it on the server, or have the source do it with Create: %w", broker.Quote(src.stream), err)
	}
	// A server that has just removed its last stream removes the folder of streams, now
	// and then while the next one is being made there.
	for try := 0; ; try++ {
		stream, err = js.CreateStream(ctx, src.streamConfig())
		if api := apiError(err); api == nil || api.ErrorCode != codeStoreFailed || try == 3 || !wait(ctx, 50*time.Millisecond) {
			break
		}
	}
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return js.Stream(ctx, src.stream) // somebody was faster; what it made is checked
	}
	if err != nil {
		return nil, fmt.Errorf("creating the stream %s: %w", broker.Quote(src.stream), err)
	}
	return stream, nil
}

// checkStream says why the stream that there is cannot serve the source.
func (s *StreamSource) checkStream(have *jetstream.StreamConfig) error {
	var m mistakes
	if have.NoAck {
		m.add(fmt.Errorf("the stream %s has NoAck: no publish to it can be confirmed", broker.Quote(have.Name)))
	}
	if have.Storage == jetstream.MemoryStorage && !s.isInMemory() {
		m.add(fmt.Errorf("the stream %s keeps its messages in memory and loses them with its server: say that this is meant with InMemory", broker.Quote(have.Name)))
	}
	if s.create != nil {
		want := s.streamConfig()
		m.add(differences("stream "+broker.Quote(have.Name), want, *have, "subjects", "metadata"))
		for _, subject := range want.Subjects {
			if !slices.ContainsFunc(have.Subjects, func(p string) bool { return covers(p, subject) }) {
				m.add(fmt.Errorf("the stream %s does not keep the subject %s, it has %q", broker.Quote(have.Name), broker.Quote(subject), have.Subjects))
			}
		}
	}
	m.add(s.checkSubjects(have))
	if len(m) == 0 {
		return nil
	}
	return mismatch{errors.Join(m...)}
}

// mismatch is a difference between what the source says and what there is.
type mismatch struct{ error }

func (m mismatch) Unwrap() error { return m.error }

// checkSubjects reports a stream that keeps nothing of what the source is for. Where
// messages come from other streams too, nothing can be said.
func (s *StreamSource) checkSubjects(stream *jetstream.StreamConfig) error {
	if stream.Mirror != nil || len(stream.Sources) > 0 || stream.SubjectTransform != nil {
		return nil
	}
	var m mistakes
	for _, subject := range s.subjects() {
		if !slices.ContainsFunc(stream.Subjects, func(p string) bool { return overlap(p, subject) }) {
			m.add(fmt.Errorf("the stream %s keeps nothing of %s: its subjects are %q", broker.Quote(stream.Name), broker.Quote(subject), stream.Subjects))
		}
	}
	return errors.Join(m...)
}

// consumerConfig is the consumer that the source wants, but for its name.
func (s *StreamSource) consumerConfig() jetstream.ConsumerConfig {
	config := jetstream.ConsumerConfig{
		Durable:       s.durable,
		DeliverPolicy: s.policy,
		OptStartSeq:   s.startSequence,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.ackWait,
		MaxAckPending: s.maxAckPending,
		MaxDeliver:    -1, // beyond a limit a message is left lying in silence
	}
	if !s.startTime.IsZero() {
		start := s.startTime.UTC() // as the server tells it
		config.OptStartTime = &start
	}
	if subjects := s.subjects(); len(subjects) == 1 {
		config.FilterSubject = subjects[0]
	} else {
		config.FilterSubjects = subjects
	}
	if s.durable == "" {
		config.Name = "gostream-" + rand.Text()
		config.InactiveThreshold = s.inactive
	}
	if s.ordered {
		config.AckPolicy = jetstream.AckNonePolicy
		config.AckWait, config.MaxAckPending = 0, 0
	}
	return config
}

// findConsumer finds the durable consumer, or makes one.
func findConsumer(ctx context.Context, js jetstream.JetStream, src *StreamSource) (*jetstream.ConsumerInfo, error) {
	want := src.consumerConfig()
	if src.durable != "" {
		have, err := js.Consumer(ctx, src.stream, src.durable)
		if err == nil {
			return have.CachedInfo(), checkConsumer(want, have.CachedInfo())
		}
		if errors.Is(err, jetstream.ErrNotPullConsumer) {
			return nil, mismatch{fmt.Errorf("the consumer %s of stream %s pushes its messages: gostream needs one that is pulled", broker.Quote(src.durable), broker.Quote(src.stream))}
		}
		if !errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil, err
		}
	}
	made, err := js.CreateConsumer(ctx, src.stream, want)
	if err != nil && src.durable != "" && (errors.Is(err, jetstream.ErrConsumerExists) || errors.Is(err, jetstream.ErrConsumerNameAlreadyInUse)) {
		made, err = js.Consumer(ctx, src.stream, src.durable) // somebody was faster
	}
	if err != nil {
		return nil, fmt.Errorf("making a consumer on stream %s: %w", broker.Quote(src.stream), err)
	}
	return made.CachedInfo(), checkConsumer(want, made.CachedInfo())
}

// checkConsumer says how the consumer that there is differs from the one wanted.
func checkConsumer(want jetstream.ConsumerConfig, info *jetstream.ConsumerInfo) error {
	have := info.Config
	name := fmt.Sprintf("consumer %s of stream %s", broker.Quote(info.Name), broker.Quote(info.Stream))
	var m mistakes
	wanted, has := filters(&want), filters(&have)
	if !slices.Equal(wanted, has) {
		m.add(fmt.Errorf("the %s filters by %q, the source by %q", name, has, wanted))
	}
	// Zero means something for these.
	if want.DeliverPolicy != have.DeliverPolicy {
		m.add(fmt.Errorf("the %s has the deliver policy %s, the source %s", name, have.DeliverPolicy, want.DeliverPolicy))
	}
	m.add(differences(name, want, have, "name", "durable_name", "filter_subject", "filter_subjects", "deliver_policy", "inactive_threshold", "metadata"))
	for _, bad := range []struct {
		is  bool
		why string
	}{
		{len(have.BackOff) > 0, "has BackOff, which redelivers before AckWait: retries are the runtime's"},
		{have.HeadersOnly, "has HeadersOnly: its messages have no payload"},
		{len(have.PriorityGroups) > 0, "has priority groups, which are not supported"},
	} {
		if bad.is {
			m.add(fmt.Errorf("the %s %s", name, bad.why))
		}
	}
	if len(m) == 0 {
		return nil
	}
	return mismatch{fmt.Errorf("%w: change the source, or the consumer on the server; nothing was changed", errors.Join(m...))}
}

func filters(c *jetstream.ConsumerConfig) []string {
	list := slices.Clone(c.FilterSubjects)
	if c.FilterSubject != "" {
		list = append(list, c.FilterSubject)
	}
	slices.Sort(list)
	return list
}

// differences names the settings of want that are not zero and that have differs in,
// but for those left out. Both are compared as they go over the wire: settings that
// later versions of the client add are compared, too.
func differences(what string, want, have any, leaveOut ...string) error {
	wanted, err := settings(want)
	if err != nil {
		return err
	}
	has, err := settings(have)
	if err != nil {
		return err
	}
	var names []string
	for name, value := range wanted {
		if slices.Contains(leaveOut, name) || isZero(value) || value == has[name] {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	var m mistakes
	for _, name := range names {
		there := has[name]
		if there == "" {
			there = "nothing"
		}
		m.add(fmt.Errorf("the %s has %s = %s, the source wants %s", what, name, there, wanted[name]))
	}
	return errors.Join(m...)
}

// settings are the fields of a configuration as JSON, by name.
func settings(config any) (map[string]string, error) {
	data, err := json.Marshal(config)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	text := make(map[string]string, len(fields))
	for name, value := range fields {
		text[name] = string(value)
	}
	return text, nil
}

func isZero(value string) bool {
	return slices.Contains([]string{"", "0", `""`, "null", "false", "[]", "{}"}, value)
}
