package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// spanStore is an exporter that counts spans, and keeps those of the latest traces: what a
// collector and its user interface would do.
type spanStore struct {
	mu     sync.Mutex
	counts map[string]int
	traces map[trace.TraceID][]sdktrace.ReadOnlySpan
	order  []trace.TraceID // of traces, the oldest first
	dead   trace.TraceID   // one that ended in the dead letter; it is kept
}

// maxTraces bounds what is kept.
const maxTraces = 500

func newSpanStore() *spanStore {
	return &spanStore{counts: make(map[string]int), traces: make(map[trace.TraceID][]sdktrace.ReadOnlySpan)}
}

// ExportSpans makes it an sdktrace.SpanExporter.
func (s *spanStore) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, span := range spans {
		id := span.SpanContext().TraceID()
		s.counts[span.Name()]++
		if _, known := s.traces[id]; !known {
			s.order = append(s.order, id)
		}
		s.traces[id] = append(s.traces[id], span)
		if span.Name() == "process orders.dead" && !s.dead.IsValid() {
			s.dead = id
		}
		if len(s.order) > maxTraces {
			oldest := s.order[0]
			s.order = s.order[1:]
			if oldest != s.dead {
				delete(s.traces, oldest)
			}
		}
	}
	return nil
}

// Shutdown makes it an sdktrace.SpanExporter. It has nothing to end.
func (*spanStore) Shutdown(context.Context) error { return nil }

// summary writes how many spans of which name there were, and one trace.
func (s *spanStore) summary(w io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintln(w, "\nspans")
	for _, name := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(w, "%7d  %s\n", s.counts[name], name)
	}
	if !s.dead.IsValid() {
		return
	}
	fmt.Fprintf(w, "\nA trace that ended in the dead letter, %s\n", s.dead)
	children := make(map[trace.SpanID][]sdktrace.ReadOnlySpan)
	for _, span := range s.traces[s.dead] {
		children[span.Parent().SpanID()] = append(children[span.Parent().SpanID()], span)
	}
	s.tree(w, children, trace.SpanID{}, 1)
}

func (s *spanStore) tree(w io.Writer, children map[trace.SpanID][]sdktrace.ReadOnlySpan, parent trace.SpanID, depth int) {
	below := children[parent]
	slices.SortStableFunc(below, func(a, b sdktrace.ReadOnlySpan) int { return a.StartTime().Compare(b.StartTime()) })
	for _, span := range below {
		var notes []string
		for _, a := range span.Attributes() {
			switch a.Key {
			case "gostream.attempt", "gostream.outcome", "gostream.reason", "error.type":
				name := string(a.Key)
				notes = append(notes, name[strings.LastIndex(name, ".")+1:]+" "+a.Value.String())
			}
		}
		slices.SortFunc(notes, cmp.Compare[string])
		fmt.Fprintf(w, "%s%s  %v  %s\n", strings.Repeat("  ", depth), span.Name(), span.EndTime().Sub(span.StartTime()).Round(time.Microsecond), strings.Join(notes, ", "))
		s.tree(w, children, span.SpanContext().SpanID(), depth+1)
	}
}
