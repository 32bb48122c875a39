package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// maxSaid bounds the warnings that are kept for the error of Start.
const maxSaid = 8

// sink is the server's logger. The server tells by its log alone why it did not start:
// the sink keeps that.
type sink struct {
	to    *slog.Logger // nil: silent
	debug bool

	mu      sync.Mutex
	started bool
	fatal   []error
	said    []string
}

func newSink(to *slog.Logger) *sink {
	return &sink{to: to, debug: to != nil && to.Enabled(context.Background(), slog.LevelDebug)}
}

func (s *sink) Noticef(format string, args ...any) { s.log(slog.LevelInfo, format, args) }
func (s *sink) Debugf(format string, args ...any)  { s.log(slog.LevelDebug, format, args) }
func (s *sink) Tracef(string, ...any)              {}

func (s *sink) Warnf(format string, args ...any) {
	s.keep(format, args)
	s.log(slog.LevelWarn, format, args)
}

func (s *sink) Errorf(format string, args ...any) {
	s.keep(format, args)
	s.log(slog.LevelError, format, args)
}

// Fatalf is called when the server does not start; it must not end the process.
func (s *sink) Fatalf(format string, args ...any) {
	s.mu.Lock()
	s.fatal = append(s.fatal, errors.New(text(format, args)))
	s.mu.Unlock()
	s.log(slog.LevelError, format, args)
}

func (s *sink) log(level slog.Level, format string, args []any) {
	if s.to != nil && s.to.Enabled(context.Background(), level) {
		s.to.Log(context.Background(), level, "nats-server: "+text(format, args))
	}
}

func (s *sink) keep(format string, args []any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started && len(s.said) < maxSaid {
		s.said = append(s.said, text(format, args))
	}
}

// start ends the start: it returns what the server warned of, and why it did not start
// if it did not.
func (s *sink) start() (said []string, fatal error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	said, fatal = s.said, errors.Join(s.fatal...)
	s.said, s.fatal = nil, nil
	return said, fatal
}

func text(format string, args []any) string {
	return strings.TrimSpace(fmt.Sprintf(format, args...))
}
