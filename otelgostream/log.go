package otelgostream

import (
	"context"
	"log/slog"
	"slices"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/trace"
)

// LogHandler returns a handler that adds trace_id and span_id to the lines that are logged
// with the context of a span, and gostream.subscription, messaging.destination.name and
// gostream.attempt to those that are logged with a handler's context and do not have them.
// next writes the lines. Give it to [gostream.WithLogger] as well: gostream's own lines
// about a message are logged with the context of its span. They stand at the top of a line,
// also where the logger has a group.
func LogHandler(next slog.Handler) slog.Handler {
	return &logHandler{top: next, next: next}
}

// logHandler remembers what was done with it since its first group: what is added must
// stand before that.
type logHandler struct {
	top   slog.Handler // without the first group and what follows
	next  slog.Handler
	has   keySet // the keys that top has
	later []func(slog.Handler) slog.Handler
}

// keySet says which attributes are there already.
type keySet struct{ trace, span, subscription, name, attempt bool }

func (k *keySet) see(a slog.Attr) {
	switch a.Key {
	case logTraceID:
		k.trace = true
	case logSpanID:
		k.span = true
	case logSubscription:
		k.subscription = true
	case logName:
		k.name = true
	case logAttempt:
		k.attempt = true
	}
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	has := h.has
	if len(h.later) == 0 {
		r.Attrs(func(a slog.Attr) bool { has.see(a); return true })
	}
	var room [5]slog.Attr
	add := room[:0]
	if sc := trace.SpanContextFromContext(ctx); sc.IsValid() {
		if !has.trace {
			add = append(add, slog.String(logTraceID, sc.TraceID().String()))
		}
		if !has.span {
			add = append(add, slog.String(logSpanID, sc.SpanID().String()))
		}
	}
	if d, ok := gostream.DeliveryFrom(ctx); ok {
		if name := d.Subscription().Name(); !has.subscription && name != "" {
			add = append(add, slog.String(logSubscription, name))
		}
		if !has.name {
			add = append(add, slog.String(logName, d.Name()))
		}
		if !has.attempt {
			add = append(add, slog.Int(logAttempt, d.Attempt()))
		}
	}
	switch {
	case len(add) == 0:
		return h.next.Handle(ctx, r)
	case len(h.later) == 0:
		r = r.Clone()
		r.AddAttrs(add...)
		return h.next.Handle(ctx, r)
	}
	next := h.top.WithAttrs(slices.Clone(add))
	for _, f := range h.later {
		next = f(next)
	}
	return next.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	c := *h
	c.next = h.next.WithAttrs(attrs)
	if len(h.later) == 0 {
		c.top = c.next
		for _, a := range attrs {
			c.has.see(a)
		}
		return &c
	}
	c.later = append(slices.Clip(h.later), func(n slog.Handler) slog.Handler { return n.WithAttrs(attrs) })
	return &c
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.next = h.next.WithGroup(name)
	c.later = append(slices.Clip(h.later), func(n slog.Handler) slog.Handler { return n.WithGroup(name) })
	return &c
}
