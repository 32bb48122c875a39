package gostream

// Subscription describes one subscription of an app. It does not change.
type Subscription struct {
	name   string
	source string
	group  string
	broker string
}

// Name is the identity: what [Named] said, else the source's name.
func (s *Subscription) Name() string { return s.name }

// Source is the declared name or pattern.
func (s *Subscription) Source() string { return s.source }

// Group is the consumer group, "" for none.
func (s *Subscription) Group() string { return s.group }

// Broker is the kind of broker, such as "memory": its protocol where it describes
// its server, else the name of its Go type.
func (s *Subscription) Broker() string { return s.broker }

// State is the state of a subscription.
type State int

const (
	// StateStarting: not yet live.
	StateStarting State = iota
	// StateRunning: live.
	StateRunning
	// StatePaused: no intake, by Pause.
	StatePaused
	// StateDown: receiving failed; it is being opened again.
	StateDown
	// StateDraining: no intake, the service shuts down.
	StateDraining
	// StateStopped: ended.
	StateStopped
)

// String returns the state in lower case.
func (s State) String() string {
	switch s {
	case StateRunning:
		return "running"
	case StatePaused:
		return "paused"
	case StateDown:
		return "down"
	case StateDraining:
		return "draining"
	case StateStopped:
		return "stopped"
	default:
		return "starting"
	}
}
