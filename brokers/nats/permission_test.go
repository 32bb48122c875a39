package nats_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	natsd "github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"

	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/brokers/nats"
)

// What the server's permissions forbid is an error of Subscribe, and an event where a
// publish was only buffered.
func TestPermissions(t *testing.T) {
	t.Parallel()
	deny := &natsd.SubjectPermission{Deny: []string{"secret.>"}}
	server, err := natsd.NewServer(&natsd.Options{
		Host: "127.0.0.1", Port: natsd.RANDOM_PORT, NoLog: true, NoSigs: true,
		Users: []*natsd.User{{Username: "desk", Password: "pass", Permissions: &natsd.Permissions{Publish: deny, Subscribe: deny}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	go server.Start()
	t.Cleanup(func() { server.Shutdown(); server.WaitForShutdown() })
	if !server.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	b := nats.New(server.ClientURL(), nats.UserPassword("desk", "pass"))
	failed := make(chan broker.Event, 10)
	b.Notify(func(e broker.Event) {
		if e.Kind == broker.EventFailed {
			failed <- e
		}
	})
	if err := b.Connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	for range 2 { // the first refusal is not taken for the second
		if sub, err := b.Subscribe(t.Context(), "secret.a"); sub != nil || !errors.Is(err, natsgo.ErrPermissionViolation) {
			t.Errorf("subscribing to what is forbidden: %v", err)
		}
		if _, err := b.Subscribe(t.Context(), "open.a"); err != nil {
			t.Errorf("subscribing to what is allowed: %v", err)
		}
	}
	if err := b.Publisher().Publish(t.Context(), broker.OutgoingMessage{Name: "secret.b"}); err != nil {
		t.Errorf("a publish is buffered, and answers %v", err)
	}
	for {
		select {
		case e := <-failed: // the subscriptions were told, too
			if errors.Is(e.Err, natsgo.ErrPermissionViolation) && e.Kind.String() == "failed" && strings.Contains(e.Err.Error(), "Publish") {
				return
			}
		case <-t.Context().Done():
			t.Fatal("a publish that is forbidden is not told")
		case <-time.After(10 * time.Second):
			t.Fatal("a publish that is forbidden is not told")
		}
	}
}
