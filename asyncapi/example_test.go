package asyncapi_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/asyncapi"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// Payment is a payload whose type speaks for itself.
type Payment struct {
	Order  string `json:"order" required:"true" description:"The number of the order." example:"o-1"`
	Cents  int64  `json:"cents" minimum:"1"`
	Method string `json:"method" enum:"card,transfer"`
}

// AsyncAPIName is what the type is called in documents.
func (Payment) AsyncAPIName() string { return "PaymentReceived" }

// AsyncAPIDescription is what stands there beside it.
func (Payment) AsyncAPIDescription() string { return "A customer has paid for an order." }

func book(context.Context, Payment) error { return nil }

// shop is the app that the program runs, too.
func shop() *gostream.App {
	r := gostream.NewRouter()
	r.Handle("payments", gostream.Consume(book), gostream.DeadLetterTo("payments.dead"))
	app := gostream.New("shop", "1.0.0")
	app.Mount(memory.New(), r)
	return app
}

// The document of an app, as YAML.
func ExampleDocument() {
	d, err := shop().Describe() // needs no connection
	if err != nil {
		log.Fatal(err)
	}
	spec, err := asyncapi.Document(d, asyncapi.Description("Books what customers pay."))
	if err != nil {
		log.Fatal(err)
	}
	text, err := spec.YAML()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(text))
	// Output:
	// asyncapi: "3.0.0"
	// info:
	//   title: shop
	//   version: "1.0.0"
	//   description: Books what customers pay.
	// servers:
	//   memory:
	//     host: in-process
	//     protocol: memory
	//     description: queues in the memory of the process
	// channels:
	//   payments:
	//     address: payments
	//     servers:
	//     - $ref: "#/servers/memory"
	//     messages:
	//       PaymentReceived:
	//         $ref: "#/components/messages/PaymentReceived"
	// operations:
	//   payments.receive:
	//     action: receive
	//     channel:
	//       $ref: "#/channels/payments"
	//     messages:
	//     - $ref: "#/channels/payments/messages/PaymentReceived"
	//     x-gostream-failure:
	//       policy:
	//       - "undecodable: dead letter to \"payments.dead\" at once"
	//       - "any other error: retry after 200ms, doubled up to 1m0s, plus up to 20%, 5 attempts in all, then dead letter to \"payments.dead\""
	//       deadLetters:
	//       - payments.dead
	// components:
	//   schemas:
	//     PaymentReceived:
	//       title: PaymentReceived
	//       description: A customer has paid for an order.
	//       type: object
	//       required:
	//       - order
	//       properties:
	//         cents:
	//           type: integer
	//           format: int64
	//           minimum: 1
	//         method:
	//           type: string
	//           enum:
	//           - card
	//           - transfer
	//         order:
	//           description: The number of the order.
	//           type: string
	//           examples:
	//           - o-1
	//   messages:
	//     PaymentReceived:
	//       name: PaymentReceived
	//       title: PaymentReceived
	//       description: A customer has paid for an order.
	//       contentType: application/json
	//       payload:
	//         $ref: "#/components/schemas/PaymentReceived"
}

// A type says its name and its description with a method each.
func ExampleNamed() {
	var named asyncapi.Named = Payment{}
	var described asyncapi.Described = Payment{}
	fmt.Println(named.AsyncAPIName() + ": " + described.AsyncAPIDescription())
	// Output: PaymentReceived: A customer has paid for an order.
}

// The server in production, and names for the wildcards of a pattern.
func ExampleServer() {
	r := gostream.NewRouter()
	r.HandleSource(memory.Pattern("payments.*"), gostream.Consume(book))
	app := gostream.New("shop", "1.0.0")
	app.Mount(memory.New(), r)
	d, err := app.Describe()
	if err != nil {
		log.Fatal(err)
	}
	spec, err := asyncapi.Document(
		d,
		asyncapi.Server("production", broker.ServerSpec{Protocol: "memory", Hosts: []string{"queues.shop.example:4222"}}),
		asyncapi.Parameters("payments.*", "region"),
	)
	if err != nil {
		log.Fatal(err)
	}
	data, err := spec.JSON()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(data) > 0)
	// Output: true
}

// What the documents of yesterday and of today have not in common.
func ExampleDiff() {
	yesterday, err := asyncapi.Parse([]byte(`
asyncapi: 3.0.0
info: {title: shop, version: 1.0.0}
channels:
  payments: {address: payments, messages: {PaymentReceived: {contentType: application/json, payload: {
    type: object, properties: {order: {type: string}}}}}}
operations:
  payments.receive: {action: receive, channel: {$ref: '#/channels/payments'}}
`))
	if err != nil {
		log.Fatal(err)
	}
	d, err := shop().Describe()
	if err != nil {
		log.Fatal(err)
	}
	today, err := asyncapi.Document(d)
	if err != nil {
		log.Fatal(err)
	}
	changes := asyncapi.Diff(yesterday, today)
	fmt.Println("breaking:", changes.Breaking())
	for _, c := range changes.List {
		if c.Breaking {
			fmt.Println(c)
		}
	}
	// Output:
	// breaking: true
	// operation payments.receive, message PaymentReceived, field order: it is required now [field-required]
}

// compare is what a step of CI does: it fails where a change would break others.
func compare(file string, app *gostream.App) error {
	data, err := os.ReadFile(file) // of the last release
	if err != nil {
		return err
	}
	old, err := asyncapi.Parse(data)
	if err != nil {
		return err
	}
	d, err := app.Describe()
	if err != nil {
		return err
	}
	spec, err := asyncapi.Document(d)
	if err != nil {
		return err
	}
	changes := asyncapi.Diff(old, spec)
	fmt.Print(changes.Text())
	if changes.Breaking() {
		return fmt.Errorf("%s: others would break", file)
	}
	return nil
}

// A document of the last release lies in the repository.
func ExampleChanges() {
	if err := compare("testdata/golden/quickstart.yaml", quickstartApp()); err != nil {
		log.Fatal(err)
	}
	// Output: no changes
}

func quickstartApp() *gostream.App {
	app := gostream.New("shop", "1.0.0")
	quickstart(app)
	return app
}
