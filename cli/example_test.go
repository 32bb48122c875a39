package cli_test

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/cli"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
)

// App is the service.
func App() *gostream.App {
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(func(context.Context, order) error { return nil }), gostream.DeadLetterTo("orders.dead"))
	app := gostream.New("shop", "1.0.0")
	app.Mount(memory.New(), r)
	return app
}

func ExampleMain() {
	main := func() { cli.Main(App()) }
	_ = main // it would end the process
}

func ExampleRun() {
	code := cli.Run(context.Background(), App(), []string{"check"}, cli.Streams{Out: os.Stdout, Err: os.Stdout})
	fmt.Println("exit code", code)
	// Output:
	// ok: shop 1.0.0: 1 broker, 1 subscription, 0 publishers; no connection was made
	// exit code 0
}

func TestCheckOfApp(t *testing.T) {
	t.Parallel()
	var errs strings.Builder
	if code := cli.Run(t.Context(), App(), []string{"check"}, cli.Streams{Err: &errs}); code != 0 {
		t.Error(errs.String())
	}
}

// With what only the program can say: who may pause, where dead letters are read, what
// the document says besides.
func ExampleMain_options() {
	main := func() {
		authorize := func(r *http.Request) (who string, err error) {
			token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
			if subtle.ConstantTimeCompare([]byte(token), []byte(os.Getenv("SHOP_OPS_TOKEN"))) == 1 {
				return "operator", nil
			}
			return "", ops.ErrUnauthenticated
		}
		cli.Main(App(),
			cli.OpsOptions(ops.Control(authorize)),
			cli.DeadLetters(memory.Queue("orders.dead", "replay")), // nats.Stream("orders.dead", "DEAD").Durable("replay")
			cli.AsyncAPIOptions(asyncapi.Title("The shop"), asyncapi.Server("production", broker.ServerSpec{
				Protocol: "nats", Hosts: []string{"nats.example.com:4222"},
			})),
		)
	}
	_ = main // it would end the process
}
