package brokertest_test

import (
	"context"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/memory"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	brokertest.Run(t, memoryHarness())
}

// memoryHarness is the harness of the in-process broker.
func memoryHarness() brokertest.Harness {
	store := memory.NewStore()
	return brokertest.Harness{
		New: func() broker.Broker { return memory.New(memory.On(store)) },
		Source: func(_ context.Context, id string) (brokertest.Target, error) {
			return brokertest.Target{Source: broker.ByName(id), Name: id}, nil
		},
		Group: func(_ context.Context, id string) (brokertest.Group, error) {
			return brokertest.Group{
				Name:   id,
				Member: func(group string) broker.Source { return memory.Queue(id, group) },
			}, nil
		},
		Pattern: func(_ context.Context, id string) (brokertest.Pattern, error) {
			return brokertest.Pattern{
				Source:   memory.Pattern(id + ".*"),
				Matching: []string{id + ".a", id + ".b"},
				Other:    []string{id, id + ".a.b", "x." + id + ".a"},
			}, nil
		},
		Misconfigured: func() broker.Broker { return memory.New(memory.Capacity(0), memory.MaxPayload(-1)) },
		InvalidNames:  []string{"a.*", "a..b", "a.>", ".a", "a b", "a\nb"},
	}
}
