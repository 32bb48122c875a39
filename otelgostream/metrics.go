package otelgostream

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/semconv/v1.43.0/messagingconv"
)

// instruments are what is recorded on the way of a message. What is asked for, the
// gauges, is in health.go.
type instruments struct {
	meter metric.Meter

	sent, consumed                     metric.Int64Counter
	operationDuration, processDuration metric.Float64Histogram
	settled, deadLettered              metric.Int64Counter
	undecodable, panics                metric.Int64Counter
	queueDuration                      metric.Float64Histogram
	attempts, batchSize, payloadSize   metric.Int64Histogram
}

func newInstruments(p metric.MeterProvider) (*instruments, error) {
	m := p.Meter(ScopeName, metric.WithSchemaURL(schemaURL))
	i := &instruments{meter: m}
	var errs []error
	seconds := metric.WithExplicitBucketBoundaries(secondBuckets...)

	sent, err := messagingconv.NewClientSentMessages(m)
	errs = append(errs, err)
	consumed, err := messagingconv.NewClientConsumedMessages(m)
	errs = append(errs, err)
	operation, err := messagingconv.NewClientOperationDuration(m, seconds)
	errs = append(errs, err)
	process, err := messagingconv.NewProcessDuration(m, seconds)
	errs = append(errs, err)
	i.sent, i.consumed = sent.Inst(), consumed.Inst()
	i.operationDuration, i.processDuration = operation.Inst(), process.Inst()

	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := m.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	sizes := func(name, unit, text string, buckets []float64) metric.Int64Histogram {
		h, err := m.Int64Histogram(name, metric.WithUnit(unit), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(buckets...))
		errs = append(errs, err)
		return h
	}
	i.settled = counter(metricSettled, "{message}", "Attempts that have ended, by their outcome.")
	i.deadLettered = counter(metricDeadLettered, "{message}", "Messages of which a copy was sent to a dead letter.")
	i.undecodable = counter(metricUndecodable, "{message}", "Attempts at messages whose payload could not be decoded.")
	i.panics = counter(metricPanics, "{panic}", "Panics of handlers.")
	i.attempts = sizes(metricAttempts, "{attempt}", "The number of the attempt with which a message was done with.", attemptBuckets)
	i.batchSize = sizes(metricBatchSize, "{message}", "Messages that a batch handler was called with.", batchBuckets)
	i.payloadSize = sizes(metricPayloadSize, "By", "Payloads that were received, and that were sent.", byteBuckets)
	i.queueDuration, err = m.Float64Histogram(metricQueueDuration, metric.WithUnit("s"),
		metric.WithDescription("Time from when a message was sent or stored until its first attempt began."),
		metric.WithExplicitBucketBoundaries(waitBuckets...))
	errs = append(errs, err)
	return i, errors.Join(errs...)
}

// labels are prepared arguments of a measurement: made once, so that measuring makes none.
type labels struct {
	add    []metric.AddOption
	record []metric.RecordOption
}
