package dirbroker

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gostream/gostream/broker"
)

// DefaultPoll is how often a Receive that waits looks into its folder.
const DefaultPoll = 50 * time.Millisecond

// Config says where the queues are.
type Config struct {
	// Dir is the folder of the queues. Required: there is no sane default. It must
	// exist when Connect is called; the folders of the queues are made in it.
	Dir string
	// Poll is how often a Receive that waits looks into its folder. 0 means
	// [DefaultPoll].
	Poll time.Duration
	// MaxPayload is the largest payload in bytes; a larger one is
	// [broker.ErrTooLarge]. 0 means no limit.
	MaxPayload int
	// NoSync leaves it to the operating system when files reach the disk. It makes
	// publishing many times faster; a power failure may then lose messages whose
	// Publish returned nil. The end of the process loses nothing either way.
	NoSync bool
	// Logger is told of files that are no messages. nil means [slog.Default].
	Logger *slog.Logger
}

// New returns a broker that is not connected. It does no I/O; the mistakes in c
// are told by [Broker.Check].
func New(c Config) *Broker {
	b := &Broker{config: c, mistakes: c.mistakes(), queues: make(map[string]*queue)}
	if b.config.Poll == 0 {
		b.config.Poll = DefaultPoll
	}
	if b.config.Logger == nil {
		b.config.Logger = slog.Default()
	}
	return b
}

// mistakes returns every mistake in c, joined.
func (c Config) mistakes() error {
	var mistakes []error
	if c.Dir == "" {
		mistakes = append(mistakes, errors.New("Config.Dir is empty: set it to the folder of the queues"))
	}
	if c.Poll < 0 {
		mistakes = append(mistakes, fmt.Errorf("Config.Poll is %v: it must not be negative; 0 is %v", c.Poll, DefaultPoll))
	}
	if c.MaxPayload < 0 {
		mistakes = append(mistakes, fmt.Errorf("Config.MaxPayload is %d: it must not be negative; 0 is no limit", c.MaxPayload))
	}
	return errors.Join(mistakes...)
}

// Check reports every mistake in the configuration; it is [broker.ErrInvalid].
func (b *Broker) Check() error {
	if b.mistakes == nil {
		return nil
	}
	return fail("check", "", broker.ErrInvalid, b.mistakes)
}
