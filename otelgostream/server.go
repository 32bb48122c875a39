package otelgostream

import (
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/gostream/gostream"
	"go.opentelemetry.io/otel/attribute"
)

// brokerLabels is what is known of one broker.
type brokerLabels struct {
	server []attribute.KeyValue // address and port; empty where they are not known

	observed attribute.Set // of the gauge
}

// describeBrokers prepares what is known of each broker, and of the servers of each kind:
// what publishes knows the kind alone, so that of two servers of one kind nothing is said.
func (t *telemetry) describeBrokers(d gostream.Description) {
	t.servers = make(map[string][]attribute.KeyValue)
	for _, b := range d.Brokers {
		one := brokerLabels{server: serverOf(b.Server.Hosts)}
		one.observed = attribute.NewSet(append([]attribute.KeyValue{
			keyApp.String(t.app.Name()), keySystem.String(systemOf(b.Kind)),
		}, one.server...)...)
		t.brokers = append(t.brokers, one)
		server := one.server
		if other, seen := t.servers[b.Kind]; seen && !slices.Equal(other, server) {
			server = nil
		}
		t.servers[b.Kind] = server
	}
}

// serverOf is where the server is. A broker that names several has a cluster, of which the
// client chooses one, so that none is named. What is no plain address is left out: it could
// hold a credential.
func serverOf(hosts []string) []attribute.KeyValue {
	if len(hosts) != 1 || strings.ContainsAny(hosts[0], "@/?#") {
		return nil
	}
	host, port, err := net.SplitHostPort(hosts[0])
	if err != nil { // it has no port
		host, port = strings.Trim(hosts[0], "[]"), ""
	}
	if host == "" {
		return nil
	}
	server := []attribute.KeyValue{keyServerAddress.String(host)}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil && n > 0 {
		server = append(server, keyServerPort.Int(int(n)))
	}
	return server
}

// systemOf is the conventions' name of a kind of broker, which is mostly the same.
func systemOf(kind string) string {
	if kind == "kafka-secure" {
		return "kafka"
	}
	return kind
}
