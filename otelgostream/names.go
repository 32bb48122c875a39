package otelgostream

import (
	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
)

// ScopeName is the instrumentation scope of all spans and metrics.
const ScopeName = "github.com/gostream/gostream/otelgostream"

const schemaURL = semconv.SchemaURL

// HeaderSent is the header that [WithSentTime] writes: when the message was sent, RFC 3339
// with nanoseconds, in UTC.
const HeaderSent = "gostream-sent"

// headerBaggage is the W3C's header of baggage.
const headerBaggage = "baggage"

// The attributes of the messaging conventions that are used.
const (
	keySystem        = semconv.MessagingSystemKey
	keyOperation     = semconv.MessagingOperationNameKey
	keyOperationType = semconv.MessagingOperationTypeKey
	keyDestination   = semconv.MessagingDestinationNameKey
	keyTemplate      = semconv.MessagingDestinationTemplateKey
	keyTemporary     = semconv.MessagingDestinationTemporaryKey
	keyPartition     = semconv.MessagingDestinationPartitionIDKey
	keyGroup         = semconv.MessagingConsumerGroupNameKey
	keyMessageID     = semconv.MessagingMessageIDKey
	keyConversation  = semconv.MessagingMessageConversationIDKey
	keyBatchCount    = semconv.MessagingBatchMessageCountKey
	keyErrorType     = semconv.ErrorTypeKey
	keyServerAddress = semconv.ServerAddressKey
	keyServerPort    = semconv.ServerPortKey
	keyOffset        = semconv.MessagingKafkaOffsetKey
)

// The attributes of our own.
const (
	// keyApp is the app's name. Gauges have it: what two apps of a process count adds up, how
	// they are does not.
	keyApp = attribute.Key(gostream.AttrApp)
	// keySubscription is the subscription's name, see gostream.Named.
	keySubscription = attribute.Key(gostream.AttrSubscription)
	// keyOutcome is how an attempt ended, as gostream.Outcome says it; on a span also
	// "pending", where what must be published first could not be.
	keyOutcome = attribute.Key(gostream.AttrOutcome)
	// keyOutcomes is, on the span of a batch, each outcome with the number of its messages.
	keyOutcomes = attribute.Key("gostream.outcomes")
	// keyAttempt is the number of the attempt; the first is 1.
	keyAttempt = attribute.Key(gostream.AttrAttempt)
	// keyRedelivered: it is not the first attempt.
	keyRedelivered = attribute.Key("gostream.redelivered")
	// keyReason is why a message failed, one of gostream's Reason constants.
	keyReason = attribute.Key(gostream.AttrReason)
	// keyState is the state of a subscription.
	keyState = attribute.Key("gostream.state")
)

// The operations: the name of each and its type.
const (
	opSend    = "send"
	opRequest = "request" // of type send
	opCreate  = "create"
	opReceive = "receive"
	opProcess = "process"
	opSettle  = "settle"
	opAck     = "ack"  // of type settle
	opNack    = "nack" // of type settle
)

// The metrics of the messaging conventions have their names, units and descriptions from
// package messagingconv; see newInstruments.

// The metrics of our own.
const (
	metricSettled        = "gostream.settled.messages"
	metricDeadLettered   = "gostream.dead_lettered.messages"
	metricUndecodable    = "gostream.undecodable.messages"
	metricPanics         = "gostream.handler.panics"
	metricAttempts       = "gostream.message.attempts"
	metricQueueDuration  = "gostream.queue.duration"
	metricBatchSize      = "gostream.batch.size"
	metricPayloadSize    = "gostream.payload.size"
	metricInFlight       = "gostream.subscription.in_flight"
	metricParked         = "gostream.subscription.parked"
	metricOldest         = "gostream.subscription.oldest"
	metricLag            = "gostream.subscription.lag"
	metricState          = "gostream.subscription.state"
	metricReady          = "gostream.service.ready"
	metricSettleFailures = "gostream.settle.failures"
	metricSendFailures   = "gostream.send.failures"
	metricBrokerHealthy  = "gostream.broker.healthy"
)

// The boundaries of the histograms. Those of durations are the conventions' own.
var (
	secondBuckets  = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	waitBuckets    = []float64{0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1800, 3600}
	attemptBuckets = []float64{1, 2, 3, 4, 5, 8, 13, 21, 50}
	batchBuckets   = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
	byteBuckets    = []float64{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20}
)

// The attributes that log lines get, as gostream's own lines call them.
const (
	logTraceID      = "trace_id"
	logSpanID       = "span_id"
	logSubscription = gostream.AttrSubscription
	logName         = gostream.AttrName
	logAttempt      = gostream.AttrAttempt
)
