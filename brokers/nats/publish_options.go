package nats

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// PublishOptions are the Options of a broker.OutgoingMessage that goes into a stream:
// by value or by pointer, through [Broker.JetStreamPublisher]. The zero value asks for
// nothing. What is expected and does not hold is [ErrConflict], and nothing is stored.
type PublishOptions struct {
	// MsgID de-duplicates: the stream accepts a second message with this id within its
	// Duplicates window, two minutes by default, and does not store it. The id holds for
	// the whole stream, whatever the subject. "" de-duplicates nothing. The message-id
	// header is another thing and never de-duplicates.
	MsgID string
	// ExpectStream is the stream that must take the message; "" for any.
	ExpectStream string
	// ExpectLastSequence is the sequence that the stream's last message must have; 0 in
	// an empty stream. nil expects nothing.
	ExpectLastSequence *uint64
	// ExpectLastSubjectSequence is the sequence that the last message of the same subject
	// must have; 0 where there must be none. nil expects nothing.
	ExpectLastSubjectSequence *uint64
	// ExpectLastMsgID is the MsgID that the stream's last message must have; "" expects
	// nothing.
	ExpectLastMsgID string
	// TTL is how long the stream keeps the message, at least one second, in whole
	// seconds; 0 for as long as the stream keeps any. The server must be 2.11 or later
	// and the stream allow it (AllowMsgTTL): else it is broker.ErrInvalid.
	TTL time.Duration
}

// publishOptions reads the Options of a message.
func publishOptions(v any) (PublishOptions, error) {
	var o PublishOptions
	switch v := v.(type) {
	case nil:
		return o, nil
	case PublishOptions:
		o = v
	case *PublishOptions:
		if v == nil {
			return o, errors.New("the options are a nil *nats.PublishOptions")
		}
		o = *v
	default:
		return o, fmt.Errorf("the options are a %T: NATS takes nats.PublishOptions", v)
	}
	if o.TTL < 0 || o.TTL > 0 && (o.TTL < time.Second || o.TTL%time.Second != 0) {
		return o, fmt.Errorf("PublishOptions.TTL is %v: it must be whole seconds, at least one", o.TTL)
	}
	for name, value := range map[string]string{"MsgID": o.MsgID, "ExpectLastMsgID": o.ExpectLastMsgID, "ExpectStream": o.ExpectStream} {
		if err := checkHeaderValue(value); err != nil {
			return o, fmt.Errorf("PublishOptions.%s: %w", name, err)
		}
	}
	return o, nil
}

// always are the options of every publish. The client does not send again by itself: it
// would read the caller's bytes after the call has returned.
var always = []jetstream.PublishOpt{jetstream.WithRetryAttempts(0), jetstream.WithStallWait(requestTimeout)}

// client are the options as the client takes them.
func (o *PublishOptions) client() []jetstream.PublishOpt {
	opts := slices.Clip(always)
	if o.MsgID != "" {
		opts = append(opts, jetstream.WithMsgID(o.MsgID))
	}
	if o.ExpectStream != "" {
		opts = append(opts, jetstream.WithExpectStream(o.ExpectStream))
	}
	if o.ExpectLastSequence != nil {
		opts = append(opts, jetstream.WithExpectLastSequence(*o.ExpectLastSequence))
	}
	if o.ExpectLastSubjectSequence != nil {
		opts = append(opts, jetstream.WithExpectLastSequencePerSubject(*o.ExpectLastSubjectSequence))
	}
	if o.ExpectLastMsgID != "" {
		opts = append(opts, jetstream.WithExpectLastMsgID(o.ExpectLastMsgID))
	}
	if o.TTL > 0 {
		opts = append(opts, jetstream.WithMsgTTL(o.TTL))
	}
	return opts
}
