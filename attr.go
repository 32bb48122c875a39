package gostream

// The names of the attributes of log lines that spans and metrics have as well, so that
// the label of an alert is found in the log: a collector that turns dots into underscores
// makes the one of the other. Handlers that log the same things do well to use them. What
// only a line has, such as "error" or "delay", is called plainly.
const (
	// AttrApp is the app's name.
	AttrApp = "gostream.app"
	// AttrSubscription is the name of a subscription, see [Named].
	AttrSubscription = "gostream.subscription"
	// AttrAttempt is the number of the attempt at a message; the first is 1.
	AttrAttempt = "gostream.attempt"
	// AttrReason is why a message failed: one of the Reason constants.
	AttrReason = "gostream.reason"
	// AttrOutcome is how an attempt ended, or should have: an [Outcome].
	AttrOutcome = "gostream.outcome"
	// AttrName is the concrete name of a message, after OpenTelemetry's conventions.
	AttrName = "messaging.destination.name"
	// AttrSystem is the kind of broker, after OpenTelemetry's conventions.
	AttrSystem = "messaging.system"
)
