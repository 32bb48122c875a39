package ops_test

import (
	"context"
	"net"
	"net/http"
	"testing"
	"time"
)

// The function of the guide serves from before the start until after the drain.
func TestServe(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	status := func(path string) int {
		t.Helper()
		resp, err := client.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	app := newShop()
	app.OnStartup(func(context.Context) error {
		if live, ready := status("/livez"), status("/readyz"); live != 200 || ready != 503 {
			t.Errorf("in the start: live %d, ready %d", live, ready)
		}
		return nil
	})
	app.OnShutdown(func(context.Context) error {
		if live, ready := status("/livez"), status("/readyz"); live != 200 || ready != 503 {
			t.Errorf("in the drain: live %d, ready %d", live, ready)
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, app, l) }()
	for limit := time.Now().Add(10 * time.Second); status("/readyz") != 200; {
		if time.Now().After(limit) {
			t.Fatal("it does not become ready")
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = conn.Close()
		t.Error("the port is open after the end")
	}
}
