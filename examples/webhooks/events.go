package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
)

// prefix is what stands before the kind of an event in the name that it is
// published to. The dead letter's name must not begin with it: the audit would
// take each dead letter for one more event.
const (
	prefix     = "github."
	deadLetter = "dead.github"
)

// linePrefix stands before the number of the line in the message id.
const linePrefix = "line-"

// event is one line of the file.
type event struct {
	line      int
	kind      string // "push", "issues", …
	repo      string // the repository's full name, "" where there is none
	payload   []byte // as it stands in the file, unless corrupted
	corrupted bool
}

// message is the event as it is published.
func (e event) message() broker.OutgoingMessage {
	m := broker.OutgoingMessage{
		Name:    prefix + e.kind,
		Payload: e.payload,
		Headers: broker.Headers{}.
			WithContentType(gostream.JSON.ContentType()).
			WithMessageID(fmt.Sprint(linePrefix, e.line)),
	}
	if e.repo != "" {
		m.Key = []byte(e.repo)
	}
	return m
}

// readFile reads the events of a file.
func readFile(name string) ([]event, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	events, err := readEvents(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return events, nil
}

// readEvents reads one event from each line. Lines may be of any length; blank
// ones are skipped.
func readEvents(r io.Reader) ([]event, error) {
	var events []event
	lines := bufio.NewReader(r)
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if len(bytes.TrimSpace(line)) > 0 {
			e, err := parseEvent(line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", n, err)
			}
			e.line = n
			events = append(events, e)
		}
		if err == io.EOF {
			break
		}
	}
	if len(events) == 0 {
		return nil, errors.New("there is no event in it")
	}
	return events, nil
}

func parseEvent(line []byte) (event, error) {
	var in struct {
		Event   string          `json:"event"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(line, &in); err != nil {
		return event{}, fmt.Errorf("not an event: %w", err)
	}
	if in.Event == "" || in.Payload == nil {
		return event{}, errors.New(`not an event: it needs "event" and "payload"`)
	}
	e := event{kind: in.Event, payload: in.Payload}
	var body struct {
		Repository struct {
			FullName string `json:"full_name"`
		} `json:"repository"`
	}
	if json.Unmarshal(in.Payload, &body) == nil {
		e.repo = body.Repository.FullName
	}
	return e, nil
}

// corrupt damages n of the events that have a typed handler, spread over all of
// them, in turn by cutting the payload in half and by making a list of it.
func corrupt(events []event, n int) error {
	var of []*event
	for i := range events {
		if typed(events[i].kind) {
			of = append(of, &events[i])
		}
	}
	if n > len(of) {
		return fmt.Errorf("only %d of the %d events have a typed handler", len(of), len(events))
	}
	for i := range n {
		e := of[i*len(of)/n]
		if i%2 == 0 {
			e.payload = e.payload[:len(e.payload)/2]
		} else {
			e.payload = fmt.Appendf(nil, "[%s]", e.payload)
		}
		e.corrupted = true
	}
	return nil
}
