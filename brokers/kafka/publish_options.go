package kafka

import (
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// PublishOptions are the options of one message, for broker.OutgoingMessage.Options. The
// zero value asks for nothing.
type PublishOptions struct {
	// Partition is the partition that the message goes to, whatever its key; nil leaves
	// the choice to the key. One that the topic does not have is broker.ErrInvalid.
	Partition *int32
	// Timestamp is the message's time, with a precision of a millisecond; the zero time is
	// when it is published. A topic whose message.timestamp.type is LogAppendTime replaces
	// it. A time before 1970 is broker.ErrInvalid.
	Timestamp time.Time
	// Tombstone has the message carry no payload at all rather than an empty one: in a
	// compacted topic it removes its key. With a payload, or without a key, it is
	// broker.ErrInvalid.
	Tombstone bool
}

var (
	errPartitionNegative = errors.New("kafka.PublishOptions: the partition is negative")
	errTimestamp         = errors.New("kafka.PublishOptions: the timestamp is before 1970")
	errTombstonePayload  = errors.New("kafka.PublishOptions: a tombstone has no payload")
	errTombstoneKey      = errors.New("kafka.PublishOptions: a tombstone without a key removes nothing")
)

const (
	// anyPartition is the partition of a record that the partitioner chooses one for.
	anyPartition = -1
	// noSuchPartition is that of a record that asked for one that the topic does not have.
	noSuchPartition = -2
)

// applyOptions applies the options of a message to its record.
func applyOptions(rec *kgo.Record, options any) error {
	var o PublishOptions
	switch v := options.(type) {
	case nil:
		return nil
	case PublishOptions:
		o = v
	case *PublishOptions:
		if v == nil {
			return errors.New("the options are a nil *kafka.PublishOptions")
		}
		o = *v
	default:
		return fmt.Errorf("the options are %T: a message for Kafka takes kafka.PublishOptions", options)
	}
	if o.Partition != nil {
		if *o.Partition < 0 {
			return errPartitionNegative
		}
		rec.Partition = *o.Partition
	}
	if !o.Timestamp.IsZero() {
		if o.Timestamp.UnixMilli() < 0 {
			return errTimestamp
		}
		rec.Timestamp = o.Timestamp
	}
	if o.Tombstone {
		switch {
		case len(rec.Value) > 0:
			return errTombstonePayload
		case rec.Key == nil:
			return errTombstoneKey
		}
		rec.Value = nil
	}
	return nil
}
