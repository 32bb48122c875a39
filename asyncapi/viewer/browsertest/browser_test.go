package browsertest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/gostream/gostream/asyncapi/viewer"
)

// required is the environment variable with which a missing browser is a failure.
const required = "GOSTREAM_REQUIRE_CHROMIUM"

// patience is for a page to appear: parsing a document takes a second, on a machine that
// does other things many.
const patience = 2 * time.Minute

// shared is what all tests of a run use: one browser and one address of the page, so that
// the component, 3 MB of script, is fetched and compiled once. Hence no test here runs
// beside another. TestMain ends both.
var shared struct {
	once   sync.Once
	ctx    context.Context
	err    error
	stop   []func()
	server *httptest.Server
	load   atomic.Pointer[func(context.Context) ([]byte, error)]
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range slices.Backward(shared.stop) {
		stop()
	}
	os.Exit(code)
}

// browser returns the context of the browser, which it starts for the first test.
func browser(t *testing.T) context.Context {
	t.Helper()
	if raceEnabled {
		t.Skip("what is tested runs in the browser: the race detector would see nothing, and take its time")
	}
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			program = found
			break
		}
	}
	if program == "" {
		const text = "there is no Chromium; on Debian: apt-get install -y chromium && go test -run '^%s$' ./asyncapi/viewer/browsertest"
		if os.Getenv(required) != "" {
			t.Fatalf(text, t.Name())
		}
		t.Skipf(text, t.Name())
	}
	shared.once.Do(func() { start(program) })
	if shared.err != nil {
		t.Fatalf("%s does not start: %v", program, shared.err)
	}
	return shared.ctx
}

// start starts the browser: without a name service, so that it reaches 127.0.0.1 alone,
// and without the environment of the test. chromedp makes its folder, and removes it.
func start(program string) {
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(program),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.NoInheritEnv,
		chromedp.Env("PATH="+os.Getenv("PATH"), "HOME=/nonexistent"),
	)
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	shared.stop = append(shared.stop, stop)
	ctx, stop = chromedp.NewContext(ctx)
	shared.stop = append(shared.stop, stop)
	shared.ctx, shared.err = ctx, chromedp.Do(ctx)

	// Below a prefix, as an app would mount it beside other pages.
	mux := http.NewServeMux()
	mux.Handle("/docs/", http.StripPrefix("/docs", viewer.Handler(func(ctx context.Context) ([]byte, error) {
		return (*shared.load.Load())(ctx)
	})))
	shared.server = httptest.NewServer(mux)
	shared.stop = append(shared.stop, shared.server.Close)
}

// A tab shows the page of one document, and has noted what happened meanwhile.
type tab struct {
	ctx context.Context

	mu       sync.Mutex
	asked    map[network.RequestID]string // the addresses of the requests
	blocked  map[network.RequestID]bool   // by the page's policy
	mistakes []string                     // exceptions and what the console says is wrong
}

// open opens the page in a tab of its own and waits until it shows something: the
// document, or what is wrong.
func open(t *testing.T, load func(context.Context) ([]byte, error)) *tab {
	t.Helper()
	ctx, closeTab := chromedp.NewContext(browser(t))
	t.Cleanup(closeTab)
	shared.load.Store(&load)
	b := &tab{ctx: ctx, asked: make(map[network.RequestID]string), blocked: make(map[network.RequestID]bool)}
	if err := chromedp.Listen(ctx, b.note); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, log.Enable, cdp.Empty{}); err != nil {
		t.Fatal(err)
	}
	// Sidebar, text and examples stand beside each other from 1536 px on.
	b.do(t, chromedp.EmulateViewport(1600, 1000, chromedp.EmulateScale(0.8)))
	b.do(t, chromedp.Navigate(page()))
	b.wait(t, `document.querySelector("#document .aui-root, #message[role=alert]") !== null`)
	return b
}

// page is the address of the page.
func page() string { return shared.server.URL + "/docs/" }

// note is called for each event of the tab.
func (b *tab) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.asked[e.RequestID] = e.Request.URL
	case *network.EventLoadingFailed:
		b.blocked[e.RequestID] = e.BlockedReason == network.BlockedReasonCsp
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			b.mistakes = append(b.mistakes, e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		b.mistakes = append(b.mistakes, text)
	}
}

// wrong returns the mistakes so far.
func (b *tab) wrong() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.mistakes)
}

// requests returns how many requests there were.
func (b *tab) requests() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.asked)
}

// left returns the addresses outside of the server that were asked and not blocked.
func (b *tab) left() (addresses []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, at := range b.asked {
		if !strings.HasPrefix(at, page()) && !b.blocked[id] {
			addresses = append(addresses, at)
		}
	}
	return addresses
}

func (b *tab) do(t *testing.T, action chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		t.Fatal(err)
	}
}

// wait waits until an expression is true.
func (b *tab) wait(t *testing.T, expression string) {
	t.Helper()
	action := chromedp.Poll[bool](expression, chromedp.WithPollingInterval(50*time.Millisecond), chromedp.WithPollingTimeout(patience))
	if _, err := chromedp.Run(b.ctx, action); err != nil {
		t.Fatalf("%s does not come true: %v\nthe page:\n%s\nmistakes: %q", expression, err, b.text(t), b.wrong())
	}
}

// expand opens schemas of a section: the first ones, at most so many. While the page is
// settling, the component closes them again: they must stay open for a while.
func (b *tab) expand(t *testing.T, section string, most int) {
	t.Helper()
	b.wait(t, fmt.Sprintf(`(() => {
		const buttons = [...document.querySelectorAll("#%s button")].filter((button) => button.checkVisibility());
		const all = buttons.filter((button) => /^(Expand|Collapse) all$/.test(button.innerText));
		const closed = all.slice(0, %d).filter((button) => button.innerText === "Expand all");
		closed.forEach((button) => button.click());
		window.seenOpen = all.length > 0 && closed.length === 0 ? (window.seenOpen ?? 0) + 1 : 0;
		return window.seenOpen >= 10;
	})()`, section, most))
}

// shows checks that words can be read in the part of the page that a selector names.
func (b *tab) shows(t *testing.T, selector string, words ...string) {
	t.Helper()
	text := evaluate[string](t, b, fmt.Sprintf("document.querySelector(%q).innerText", selector))
	line := strings.Join(strings.Fields(text), " ")
	for _, w := range words {
		if !strings.Contains(line, strings.Join(strings.Fields(w), " ")) {
			t.Errorf("%s does not show %q:\n%s", selector, w, text)
		}
	}
}

// text returns what can be read on the page: nothing that is hidden.
func (b *tab) text(t *testing.T) string {
	t.Helper()
	return evaluate[string](t, b, "document.body.innerText")
}

func evaluate[T any](t *testing.T, b *tab, expression string) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}
