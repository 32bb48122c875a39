package ops_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
)

//go:generate go test -run ^TestGolden$ -update .

var update = flag.Bool("update", false, "write testdata/*.golden instead of comparing them")

// The names of the fields, and what stands in them, for an app where something is wrong
// everywhere.
func TestGolden(t *testing.T) {
	for name, opts := range map[string][]ops.Option{"": nil, "-keys": {ops.ShowKeys()}} {
		synctest.Test(t, func(t *testing.T) {
			shop := memory.New()
			post := newTestBroker(func(context.Context) error { return errors.New("the connection is lost") })
			post.feed = &feed{make(chan error)}
			mute := &muteBroker{memory.New()}
			busy := make(chan struct{})
			orders := func(_ context.Context, s string) error {
				if s == "slow" {
					<-busy
					return nil
				}
				return gostream.RetryAfter(time.Hour, errors.New("the till is closed"))
			}
			r := gostream.NewRouter()
			r.HandleSource(memory.Queue("orders", "billing"), gostream.Consume(orders), gostream.Named("orders <&> paid"), gostream.Workers(2), gostream.ByKey())
			r.HandleSource(memory.Queue("later", "later"), gostream.Consume(nothing))
			letters := gostream.NewRouter()
			letters.Handle("letters", gostream.Consume(nothing))
			app := gostream.New("shop", "1.0.0", quiet())
			app.Mount(shop, r)
			app.Mount(post, letters)
			app.Mount(mute)
			p := gostream.NewPublisher[string](app, shop, "orders")
			later := gostream.NewPublisher[string](app, shop, "later")
			h := newHandler(t, app, opts...)
			golden(t, "readyz-starting", get(t, h, "/readyz"))
			s := start(t, app)
			publish := func(v, key string) {
				t.Helper()
				if err := p.Publish(t.Context(), v, gostream.Key(key)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(1250 * time.Millisecond)
			}
			publish("fails", "customer-1")
			publish("waits", "customer-1")
			publish("fails", "\xff\xfe")
			publish("fails", strings.Repeat("é", 200))
			publish("slow", "k") // the lane that is free
			if err := s.Pause(t.Context(), "later"); err != nil {
				t.Fatal(err)
			}
			for range 3 {
				if err := later.Publish(t.Context(), "x"); err != nil {
					t.Fatal(err)
				}
			}
			golden(t, "subscriptions"+name, get(t, h, "/subscriptions"))
			post.feed.fail <- errors.New("gone")
			synctest.Wait()
			golden(t, "readyz-down", get(t, h, "/readyz"))
			golden(t, "livez", get(t, h, "/livez"))
			close(busy)
			shutdown(t, s)
		})
	}
}

// muteBroker hides that it can tell how it is.
type muteBroker struct{ broker.Broker }

func golden(t *testing.T, name string, a answer) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(a.body), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if a.body != string(want) {
		t.Errorf("%s is\n%s\nwant\n%s\nWhere it was meant to change: go generate ./ops", name, a.body, want)
	}
}

// Keys are shown where they are asked for, and nowhere else.
func TestKeysAreHidden(t *testing.T) {
	t.Parallel()
	for name, shown := range map[string]bool{"subscriptions": false, "subscriptions-keys": true} {
		text, err := os.ReadFile(filepath.Join("testdata", name+".golden"))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "customer-1") != shown || strings.Contains(string(text), `"keys"`) != shown {
			t.Errorf("%s: the keys are shown: %v, want %v", name, !shown, shown)
		}
	}
}

// An app that only publishes is ready, and its lists are empty rather than null.
func TestPublishOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		app := gostream.New("shop", "1.0.0", quiet())
		app.Mount(newTestBroker(nil))
		h := newHandler(t, app)
		s := start(t, app)
		if a := get(t, h, "/readyz"); a.status != 200 || !strings.Contains(a.body, `"reasons": []`) {
			t.Errorf("/readyz is %d: %s", a.status, a.body)
		}
		if a := get(t, h, "/subscriptions"); a.status != 200 || !strings.Contains(a.body, `"subscriptions": []`) {
			t.Errorf("/subscriptions is %d: %s", a.status, a.body)
		}
		shutdown(t, s)
	})
}
