package embedded_test

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

func BenchmarkSync(b *testing.B) {
	for _, sync := range []bool{false, true} {
		b.Run(fmt.Sprintf("SyncAlways=%t", sync), func(b *testing.B) {
			s := start(b, embedded.Config{Dir: b.TempDir(), SyncAlways: sync})
			_, js := connect(b, s)
			addStream(b, js, jetstream.FileStorage)
			payload := make([]byte, 256)
			for b.Loop() {
				if _, err := js.Publish(b.Context(), "orders.new", payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
