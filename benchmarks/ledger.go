package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
)

// payloadSize is the length of the payloads that are sent to servers.
const payloadSize = 256

// ledger numbers the messages of an entrant and checks that each came once: their
// number, and the sum of their numbers, scattered so that a message which is missing and
// another which came twice do not make up for each other. It costs the same on all sides.
type ledger struct {
	of      work
	payload []byte // made anew for each message, in place

	next uint64 // the publisher's
	sent uint64
	got  atomic.Uint64
}

func newLedger(of work) *ledger { return &ledger{of: of, payload: make([]byte, payloadSize)} }

// scatter makes of a number one that looks random, another for each.
func scatter(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// number is the next message's.
func (l *ledger) number() uint64 {
	l.next++
	l.sent += scatter(l.next)
	return l.next
}

// traffic numbers what is sent. A payload holds until the next one; it is JSON where the
// work is.
func (l *ledger) traffic() traffic {
	order := func(int) Order {
		return Order{ID: "o-1", Customer: "c-1", Cents: int64(l.number())}
	}
	t := traffic{order: order, number: l.number}
	if l.of == noop {
		t.payload = func(int) []byte {
			binary.BigEndian.PutUint64(l.payload, l.number())
			return l.payload
		}
		return t
	}
	t.payload = func(i int) []byte {
		l.payload = appendOrder(l.payload[:0], order(i))
		return l.payload
	}
	return t
}

// The JSON of an order, as the encoder writes it: the publisher that feeds a loop is no
// part of what is compared and shall take little.
const (
	orderHead = `{"id":"o-1","customer":"c-1","cents":`
	orderTail = `}`
)

func appendOrder(dst []byte, o Order) []byte {
	dst = append(dst, orderHead...)
	dst = strconv.AppendInt(dst, o.Cents, 10)
	return append(dst, orderTail...)
}

var errPayload = errors.New("a payload came that was not sent")

// numberIn is the number of a payload.
func (l *ledger) numberIn(payload []byte) (uint64, error) {
	if l.of == noop {
		if len(payload) != payloadSize {
			return 0, fmt.Errorf("%w: it has %d bytes", errPayload, len(payload))
		}
		return binary.BigEndian.Uint64(payload), nil
	}
	digits, ok := bytes.CutPrefix(payload, []byte(orderHead))
	if !ok || !bytes.HasSuffix(digits, []byte(orderTail)) {
		return 0, errPayload
	}
	var n uint64
	for _, d := range digits[:len(digits)-len(orderTail)] {
		if d < '0' || d > '9' {
			return 0, errPayload
		}
		n = 10*n + uint64(d-'0')
	}
	return n, nil
}

func (l *ledger) probe(f *flight) probe {
	return probe{
		raw: func(payload []byte) {
			n, err := l.numberIn(payload)
			if err != nil {
				f.fail(err)
				return
			}
			l.got.Add(scatter(n))
			f.handled()
		},
		order: func(o Order) {
			l.got.Add(scatter(uint64(o.Cents)))
			f.handled()
		},
		fail: f.fail,
	}
}

// check is called when all that was sent was handled, by its number.
func (l *ledger) check(f *flight) error {
	if done := f.done.Load(); done != f.sent {
		return fmt.Errorf("%d messages were sent, %d were handled", f.sent, done)
	}
	if l.got.Load() != l.sent {
		return fmt.Errorf("of %d messages some came twice and others not at all", f.sent)
	}
	return nil
}
