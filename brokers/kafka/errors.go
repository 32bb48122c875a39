package kafka

import (
	"context"
	"errors"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/gostream/gostream/broker"
)

var (
	// ErrFenced: another producer with the same [TransactionalID] has taken over, or the
	// server has ended the transaction because it took longer than its timeout. Nothing of
	// the transaction is visible. It is permanent for this broker.
	ErrFenced = errors.New("the transactional producer was fenced")

	// ErrDenied: the server refuses the credentials, or these may not do it.
	ErrDenied = errors.New("access denied")
)

// kindOfBroker is how errors and descriptions name this broker.
const kindOfBroker = "kafka"

// fail makes every error of this package that an operation returns. name is the topic
// of the operation, "" for none. kind is the category and cause what lies behind it;
// either may be nil.
func fail(op, name string, kind, cause error) error {
	return &broker.Error{Op: op, Broker: kindOfBroker, Name: name, Kind: kind, Err: cause}
}

// categories says which category a client's error belongs to; the first that
// errors.Is finds decides. Errors that are not here have none.
var categories = []struct{ client, kind error }{
	{kgo.ErrClientClosed, broker.ErrClosed},
	{kerr.MessageTooLarge, broker.ErrTooLarge},
	{kerr.RecordListTooLarge, broker.ErrTooLarge},
	{kerr.UnknownTopicOrPartition, broker.ErrNotFound},
	{kerr.UnknownTopicID, broker.ErrNotFound},
	{kerr.InvalidTopicException, broker.ErrInvalid},
	{kerr.InvalidTimestamp, broker.ErrInvalid},
	{kerr.InvalidRecord, broker.ErrInvalid},
	{kerr.InvalidGroupID, broker.ErrInvalid},
	{kerr.InvalidPartitions, broker.ErrInvalid},
	{kerr.InvalidReplicationFactor, broker.ErrInvalid},
	{kerr.InvalidConfig, broker.ErrInvalid},
	{kerr.PolicyViolation, broker.ErrInvalid},
	{kerr.ProducerFenced, ErrFenced},
	{kerr.InvalidProducerEpoch, ErrFenced},
	{kerr.InvalidProducerIDMapping, ErrFenced},
	{kerr.InvalidTxnState, ErrFenced}, // the transaction that is to end is none of ours any more
	{kerr.TopicAuthorizationFailed, ErrDenied},
	{kerr.GroupAuthorizationFailed, ErrDenied},
	{kerr.ClusterAuthorizationFailed, ErrDenied},
	{kerr.TransactionalIDAuthorizationFailed, ErrDenied},
	{kerr.SaslAuthenticationFailed, ErrDenied},
	{kerr.IllegalSaslState, ErrDenied},
	{kerr.UnsupportedSaslMechanism, ErrDenied},
}

// fail translates an error of the client: the one place where that is done.
func (b *Broker) fail(op, name string, err error) error {
	// The client is closed by Shutdown alone: what it says then is one of many ways to
	// say so.
	if b.life.isClosed() && (errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled)) {
		return fail(op, name, broker.ErrClosed, nil)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return fail(op, name, nil, err)
	}
	for _, c := range categories {
		if errors.Is(err, c.client) {
			return fail(op, name, c.kind, err)
		}
	}
	return fail(op, name, nil, err)
}

// isPermanent reports an error of a group or of a fetch that time does not heal.
func isPermanent(err error) bool {
	for _, permanent := range []error{
		kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.SaslAuthenticationFailed, kerr.UnsupportedSaslMechanism,
		kerr.InvalidGroupID, kerr.InconsistentGroupProtocol, kerr.InvalidSessionTimeout, kerr.GroupMaxSizeReached,
		kerr.UnsupportedVersion, kerr.UnsupportedForMessageFormat, kerr.InvalidTopicException,
	} {
		if errors.Is(err, permanent) {
			return true
		}
	}
	return false
}
