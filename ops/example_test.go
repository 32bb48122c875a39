package ops_test

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/memory"
	"github.com/gostream/gostream/ops"
)

// newShop returns an app with two subscriptions.
func newShop() *gostream.App {
	r := gostream.NewRouter()
	r.Handle("orders", gostream.Consume(nothing))
	r.Handle("letters", gostream.Consume(nothing), gostream.Named("letters/out"))
	app := gostream.New("shop", "1.0.0", quiet())
	app.Mount(memory.New(), r)
	return app
}

// serve runs the app until ctx ends. The probes are answered on l from before its start
// until after its drain.
func serve(ctx context.Context, app *gostream.App, l net.Listener) error {
	h, err := ops.New(app)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()

	err = app.Run(ctx)
	_ = server.Close()
	if failed := <-served; !errors.Is(failed, http.ErrServerClosed) {
		err = errors.Join(err, failed)
	}
	return err
}

// ask prints the status of an answer.
func ask(h http.Handler, method, target string, edit ...func(*http.Request)) {
	r := httptest.NewRequest(method, target, nil)
	for _, f := range edit {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	fmt.Println(method, target, w.Code)
}

func Example() {
	ctx := context.Background()
	app := newShop()
	h, err := ops.New(app)
	if err != nil {
		log.Fatal(err)
	}
	ask(h, "GET", "/livez")
	ask(h, "GET", "/readyz")

	service, err := app.Start(ctx) // or Run, which blocks
	if err != nil {
		log.Fatal(err)
	}
	ask(h, "GET", "/readyz")
	ask(h, "GET", "/subscriptions")

	if err := service.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	ask(h, "GET", "/livez")
	ask(h, "GET", "/readyz")
	// Output:
	// GET /livez 200
	// GET /readyz 503
	// GET /readyz 200
	// GET /subscriptions 200
	// GET /livez 200
	// GET /readyz 503
}

func ExampleControl() {
	ctx := context.Background()
	tokens := map[string]string{"ana": "a long random secret"} // from where secrets are kept
	authorize := func(r *http.Request) (who string, err error) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		for name, want := range tokens {
			if subtle.ConstantTimeCompare([]byte(token), []byte(want)) == 1 {
				return name, nil
			}
		}
		return "", ops.ErrUnauthenticated
	}
	log := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTime}))
	app := newShop()
	h, err := ops.New(app, ops.Control(authorize), ops.WithLogger(log))
	if err != nil {
		panic(err)
	}
	service, err := app.Start(ctx)
	if err != nil {
		panic(err)
	}
	ana := func(r *http.Request) { r.Header.Set("Authorization", "Bearer a long random secret") }
	ask(h, "POST", "/subscriptions/orders/pause", ana)
	ask(h, "POST", "/subscriptions/letters%2Fout/pause", ana)
	ask(h, "POST", "/subscriptions/orders/resume", ana)
	for _, s := range service.Health(ctx).Subscriptions {
		fmt.Println(s.Subscription.Name(), s.State)
	}
	if err := service.Shutdown(ctx); err != nil {
		panic(err)
	}
	// Output:
	// level=INFO msg="pause by request" gostream.app=shop gostream.subscription=orders who=ana
	// POST /subscriptions/orders/pause 200
	// level=INFO msg="pause by request" gostream.app=shop gostream.subscription=letters/out who=ana
	// POST /subscriptions/letters%2Fout/pause 200
	// level=INFO msg="resume by request" gostream.app=shop gostream.subscription=orders who=ana
	// POST /subscriptions/orders/resume 200
	// orders running
	// letters/out paused
}

// The handlers by themselves, on a mux of the program's.
func ExampleHandler_Livez() {
	h, err := ops.New(newShop())
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health/live", h.Livez)
	mux.HandleFunc("/health/ready", h.Readyz)
	mux.HandleFunc("/streams", h.Subscriptions)
	mux.HandleFunc("/streams/{name}/pause", h.Pause) // 404 without ops.Control
	mux.HandleFunc("/streams/{name}/resume", h.Resume)

	ask(mux, "GET", "/health/live")
	ask(mux, "GET", "/health/ready")
	ask(mux, "POST", "/streams/orders/pause")
	// Output:
	// GET /health/live 200
	// GET /health/ready 503
	// POST /streams/orders/pause 404
}

// withoutTime makes a log the same each time.
func withoutTime(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}
