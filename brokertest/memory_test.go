package brokertest_test

import (
	"context"
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokertest"
	"github.com/gostream/gostream/internal/docpage"
	"github.com/gostream/gostream/memory"
)

//go:generate go test -run ^TestMemory$ -update .

var update = flag.Bool("update", false, "write the kit's tables into the guide of the memory broker")

func TestMemory(t *testing.T) {
	t.Parallel()
	report := brokertest.Run(t, memoryHarness())
	all := len(report.Results()) == len(brokertest.Checks()) // -run may choose some
	if all && !t.Failed() {
		tables, _, _ := strings.Cut(report.Markdown(), "### Checks")
		guide := filepath.Join("..", "docs", "memory.md")
		docpage.Same(t, guide, "memory", tables, *update, "go generate ./brokertest")
	}
}

// TestMemoryBounded: with small limits, and with a pattern source in place of the
// source by name.
func TestMemoryBounded(t *testing.T) {
	t.Parallel()
	const limit, capacity, maxPayload = 8, 2048, 64 << 10
	h := memoryHarness()
	store := memory.NewStore(memory.Capacity(capacity), memory.MaxPayload(maxPayload))
	h.New = func() broker.Broker { return memory.New(memory.On(store)) }
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: memory.Pattern(id).Limit(limit), Name: id}, nil
	}
	h.Group = func(_ context.Context, id string) (brokertest.Group, error) {
		return brokertest.Group{
			Name:   id,
			Member: func(group string) broker.Source { return memory.Queue(id, group).Limit(limit) },
		}, nil
	}
	brokertest.Run(t, h)
}

// TestMemoryOneAtATime: with one delivery at a time the checks that need several are
// not applicable, and nothing hangs.
func TestMemoryOneAtATime(t *testing.T) {
	t.Parallel()
	h := memoryHarness()
	h.Source = func(_ context.Context, id string) (brokertest.Target, error) {
		return brokertest.Target{Source: memory.Queue(id, "one").Limit(1), Name: id}, nil
	}
	h.Group = func(_ context.Context, id string) (brokertest.Group, error) {
		return brokertest.Group{
			Name:   id,
			Member: func(group string) broker.Source { return memory.Queue(id, group).Limit(1) },
		}, nil
	}
	brokertest.Run(t, h)
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
