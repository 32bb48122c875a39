package broker_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"github.com/gostream/gostream/broker"
)

var categories = []error{
	broker.ErrNotConnected, broker.ErrClosed, broker.ErrSettled, broker.ErrStale,
	broker.ErrNotFound, broker.ErrTooLarge, broker.ErrInvalid,
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  broker.Error
		want string
	}{
		{
			broker.Error{Broker: "nats", Op: "publish", Name: "orders", Kind: broker.ErrTooLarge, Err: errCut},
			`nats: publish "orders": message too large: cut`,
		},
		{broker.Error{Broker: "nats", Op: "connect", Err: errCut}, `nats: connect: cut`},
		{broker.Error{Broker: "nats", Op: "receive", Kind: broker.ErrClosed}, `nats: receive: closed`},
		{broker.Error{Broker: "nats", Op: "subscribe", Name: "a\nb", Kind: broker.ErrInvalid}, `nats: subscribe "a\nb": invalid`},
		{broker.Error{Broker: "nats", Op: "ack"}, `nats: ack`},
		{broker.Error{Broker: "nats", Kind: broker.ErrStale}, `nats: delivery is stale`},
	} {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("the text is %q, want %q", got, tt.want)
		}
	}
}

func TestErrorTextOfALongName(t *testing.T) {
	t.Parallel()
	err := &broker.Error{Broker: "nats", Op: "subscribe", Name: strings.Repeat("n", 64<<10), Kind: broker.ErrInvalid}
	text := err.Error()
	if len(text) > 250 {
		t.Errorf("the text has %d bytes", len(text))
	}
	if !strings.HasSuffix(text, "(65536 bytes): invalid") {
		t.Errorf("the text %q does not end with the name's length and the category", text)
	}
}

// The client's own error is found through the broker's, by value and by type.
func TestErrorUnwrapsBoth(t *testing.T) {
	t.Parallel()
	client := &fs.PathError{Op: "dial", Path: "host", Err: context.DeadlineExceeded}
	for _, kind := range categories {
		err := fmt.Errorf("app: %w", &broker.Error{Broker: "test", Op: "publish", Kind: kind, Err: client})
		for _, other := range categories {
			if errors.Is(err, other) != (other == kind) {
				t.Errorf("an error of category %q: errors.Is(%q) is %v", kind, other, other != kind)
			}
		}
		var e *broker.Error
		if !errors.As(err, &e) || e.Op != "publish" {
			t.Errorf("errors.As does not find the broker's error in %v", err)
		}
		var p *fs.PathError
		if !errors.As(err, &p) || p != client {
			t.Errorf("errors.As does not find the client's error in %v", err)
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the context error is not recognisable in %v", err)
		}
	}
}

// The runtime asks whether a settlement is unsupported for every message of a transport
// without acknowledgements.
func TestAskingForTheCategoryAllocatesNothing(t *testing.T) {
	var err error = &broker.Error{Kind: errors.ErrUnsupported, Err: errors.New("a cause")}
	if got := testing.AllocsPerRun(100, func() {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error("the category is not found")
		}
	}); got > 0 {
		t.Errorf("errors.Is allocates %v times", got)
	}
}

func TestErrorUnwrapsWhatIsSet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  broker.Error
		want int
	}{
		{broker.Error{}, 0},
		{broker.Error{Kind: broker.ErrClosed}, 1},
		{broker.Error{Err: errCut}, 1},
		{broker.Error{Kind: broker.ErrClosed, Err: errCut}, 2},
	} {
		got := tt.err.Unwrap()
		if len(got) != tt.want {
			t.Errorf("%#v unwraps to %v", tt.err, got)
		}
		for _, err := range got {
			if err == nil {
				t.Errorf("%#v unwraps to a nil error", tt.err)
			}
		}
		if errors.Is(&tt.err, broker.ErrClosed) != (tt.err.Kind != nil) || errors.Is(&tt.err, errCut) != (tt.err.Err != nil) {
			t.Errorf("%#v: errors.Is does not find what is set, or finds more", tt.err)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	at := strings.Repeat("n", 120)
	for name, want := range map[string]string{
		"":                            `""`,
		"orders":                      `"orders"`,
		"a\"b":                        `"a\"b"`,
		"a\x00\x1b[31m\r\n\xff\u202e": `"a\x00\x1b[31m\r\n\xff\u202e"`,
		at:                            `"` + at + `"`,
		at + "!":                      `"` + at + `"… (121 bytes)`,
	} {
		if got := broker.Quote(name); got != want {
			t.Errorf("Quote(%q) is %s, want %s", name, got, want)
		}
	}
}

func TestQuoteIsBounded(t *testing.T) {
	t.Parallel()
	for _, unit := range []string{"n", "\x00", "\n", "ä", "\u202e", "\U000e0001"} {
		name := strings.Repeat(unit, (64<<10)/len(unit))
		got := broker.Quote(name)
		if len(got) > 600 {
			t.Errorf("64 KiB of %q: the quoted text has %d bytes", unit, len(got))
		}
		if !strings.HasSuffix(got, "… ("+strconv.Itoa(len(name))+" bytes)") {
			t.Errorf("64 KiB of %q: the text %q does not tell the length", unit, got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("64 KiB of %q: the quoted text holds %U", unit, r)
				break
			}
		}
	}
}
