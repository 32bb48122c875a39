package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// Machine is where the figures come from.
type Machine struct {
	CPU     string            `json:"cpu"`
	Cores   int               `json:"cores"`
	Procs   int               `json:"gomaxprocs"`
	System  string            `json:"system"`
	Go      string            `json:"go"`
	Load    string            `json:"load,omitempty"`
	Modules map[string]string `json:"modules"`
}

const (
	gostreamModule  = "github.com/gostream/gostream"
	watermillModule = "github.com/ThreeDotsLabs/watermill"
)

// clientModules are the others that figures depend on.
var clientModules = []string{
	"github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2",
	"github.com/twmb/franz-go", "github.com/twmb/franz-go/pkg/kfake", "github.com/IBM/sarama",
	"github.com/ThreeDotsLabs/watermill-nats/v2", "github.com/ThreeDotsLabs/watermill-kafka/v3",
}

func thisMachine() Machine {
	m := Machine{
		CPU: cpu(), Cores: runtime.NumCPU(), Procs: runtime.GOMAXPROCS(0),
		System: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(), Load: load(),
		Modules: map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == watermillModule || d.Path == gostreamModule || slices.Contains(clientModules, d.Path) {
				m.Modules[d.Path] = d.Version
			}
		}
		// gostream is this checkout: the version of the repository says more.
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				m.Modules[gostreamModule] = s.Value
			}
		}
	}
	return m
}

func (m Machine) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %d cores (GOMAXPROCS %d), %s, %s\n", m.CPU, m.Cores, m.Procs, m.System, m.Go)
	fmt.Fprintf(&b, "gostream %s, watermill %s\n", version(m.Modules[gostreamModule]), version(m.Modules[watermillModule]))
	var clients []string
	for _, path := range clientModules {
		if v := m.Modules[path]; v != "" {
			clients = append(clients, strings.TrimPrefix(path, "github.com/")+" "+v)
		}
	}
	if len(clients) > 0 {
		fmt.Fprintf(&b, "%s\n", strings.Join(clients, ", "))
	}
	if m.Load != "" {
		fmt.Fprintf(&b, "load at the start %s (1, 5, 15 minutes)\n", m.Load)
	}
	return b.String()
}

func version(v string) string {
	if v == "" || v == "(devel)" || v == "v0.0.0" {
		return "of this checkout"
	}
	return v
}

// cpu is the processor's name where the system says it.
func cpu() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return "unknown CPU"
}

// load is the system's load averages, "" where it does not say them.
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	f := strings.Fields(string(data))
	return strings.Join(f[:min(3, len(f))], " ")
}
