package dirbroker_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/examples/dirbroker"
)

// TestConformance proves that the broker keeps the contract.
func TestConformance(t *testing.T) {
	t.Parallel()
	sameReport(t, "directory", brokertest.Run(t, harness(t)))
}

// harness tells the kit how to reach queues in a folder of the test.
func harness(t *testing.T) brokertest.Harness {
	config := dirbroker.Config{
		Dir:        t.TempDir(),
		Poll:       2 * time.Millisecond, // messages of another connection are found by polling
		MaxPayload: 2 << 20,
		NoSync:     true,
	}
	return brokertest.Harness{
		New: func() broker.Broker { return dirbroker.New(config) },
		Source: func(_ context.Context, id string) (brokertest.Target, error) {
			return brokertest.Target{Source: dirbroker.Queue(id), Name: id}, nil
		},
		Group: func(_ context.Context, id string) (brokertest.Group, error) {
			return brokertest.Group{
				Name:   id,
				Member: func(string) broker.Source { return dirbroker.Queue(id) },
				// What is published to a queue goes to one of its consumers, whatever they
				// call themselves: there is no second group that gets all of it as well.
				Single: true,
			}, nil
		},
		Bulk: 10_000, // making a file takes a tenth of a millisecond and more
		Unreachable: func() broker.Broker {
			nowhere := config
			nowhere.Dir = filepath.Join(config.Dir, "nowhere")
			return dirbroker.New(nowhere)
		},
		Misconfigured: func() broker.Broker {
			return dirbroker.New(dirbroker.Config{Poll: -1, MaxPayload: -1})
		},
		InvalidNames: []string{
			".", "..", "../orders", "orders/new", "/orders", `orders\new`, ".connections", "orders.",
			"Orders", "orders new", "orders\x00", strings.Repeat("o", dirbroker.MaxName+1),
		},
	}
}
