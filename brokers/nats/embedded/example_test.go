package embedded_test

import (
	"context"
	"fmt"
	"log"
	"os"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/gostream/gostream/brokers/nats/embedded"
)

// A stream that outlives its server.
func Example() {
	dir, err := os.MkdirTemp("", "jetstream")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()

	// withServer stands for a run of the program.
	withServer := func(do func(jetstream.JetStream) error) {
		server, err := embedded.Start(embedded.Config{Dir: dir})
		if err != nil {
			log.Fatal(err)
		}
		nc, err := natsgo.Connect("", natsgo.InProcessServer(server))
		if err != nil {
			log.Fatal(err)
		}
		js, err := jetstream.New(nc)
		if err != nil {
			log.Fatal(err)
		}
		if err := do(js); err != nil {
			log.Fatal(err)
		}
		nc.Close()
		if err := server.Shutdown(ctx); err != nil {
			log.Fatal(err)
		}
	}

	withServer(func(js jetstream.JetStream) error {
		_, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
		if err != nil {
			return err
		}
		_, err = js.Publish(ctx, "orders.new", []byte("an order"))
		return err
	})
	withServer(func(js jetstream.JetStream) error {
		stream, err := js.Stream(ctx, "ORDERS")
		if err != nil {
			return err
		}
		m, err := stream.GetMsg(ctx, 1)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s\n", m.Subject, m.Data)
		return nil
	})
	// Output:
	// orders.new: an order
}
