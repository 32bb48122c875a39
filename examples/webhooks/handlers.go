package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gostream/gostream"
	"github.com/gostream/gostream/broker"
	"github.com/gostream/gostream/memory"
)

// App puts the handlers on a broker.
func App(b broker.Broker, account *Account, activity *Activity, c config) *gostream.App {
	var options []gostream.HandleOption
	if c.byKey {
		options = append(options, gostream.ByKey()) // one repository's events one after the other
	}
	events := gostream.NewRouter(gostream.Workers(c.workers), gostream.DeadLetterTo(deadLetter))
	events.Use(account.Handled)
	events.Handle(prefix+"push", gostream.Consume(activity.Push), options...)
	events.Handle(prefix+"issues", gostream.Consume(activity.Issues), options...)
	events.Handle(prefix+"pull_request", gostream.Consume(activity.PullRequest), options...)

	audit := gostream.Raw(account.Audit)
	if c.batch > 0 {
		audit = gostream.ConsumeBatch(account.AuditBatch, c.batch, batchWait)
	}
	// Each subscription gets a copy of its own: the audit takes nothing away.
	watch := gostream.NewRouter()
	watch.HandleSource(memory.Pattern(prefix+">"), audit, gostream.Named("audit"))
	watch.Handle(deadLetter, gostream.Raw(account.Dead))

	app := gostream.New("webhooks", "1.0.0", gostream.WithLogger(c.log))
	app.Mount(b, events, watch)
	return app
}

// batchWait is how long a batch of the audit waits to be full.
const batchWait = 10 * time.Millisecond

// typed says which events have a handler of their own in App.
func typed(kind string) bool {
	return kind == "push" || kind == "issues" || kind == "pull_request"
}

// Push is what was pushed to a branch or a tag. This and the following types have
// just the fields that are used.
type Push struct {
	Deleted bool `json:"deleted"`
	Commits []struct {
		ID string `json:"id"`
	} `json:"commits"`
}

// Issue is something that happened to an issue.
type Issue struct {
	Action string `json:"action"`
}

// PullRequest is something that happened to a pull request.
type PullRequest struct {
	Action      string `json:"action"`
	PullRequest struct {
		Draft bool `json:"draft"`
	} `json:"pull_request"`
}

// Activity is what the typed handlers find out.
type Activity struct {
	mu                       sync.Mutex
	commits, deleted, drafts int
	issues, pullRequests     map[string]int // by action
}

// NewActivity returns an Activity without any.
func NewActivity() *Activity {
	return &Activity{issues: make(map[string]int), pullRequests: make(map[string]int)}
}

// Push handles a push.
func (a *Activity) Push(_ context.Context, p Push) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.commits += len(p.Commits)
	if p.Deleted {
		a.deleted++
	}
	return nil
}

// Issues handles an issues event.
func (a *Activity) Issues(_ context.Context, i Issue) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issues[i.Action]++
	return nil
}

// PullRequest handles a pull_request event.
func (a *Activity) PullRequest(_ context.Context, p PullRequest) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pullRequests[p.Action]++
	if p.PullRequest.Draft {
		a.drafts++
	}
	return nil
}

// Print writes a line for each handler.
func (a *Activity) Print(out io.Writer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fmt.Fprintf(out, "push: commits %d, refs deleted %d\n", a.commits, a.deleted)
	fmt.Fprintf(out, "issues: %s\n", mostOften(a.issues))
	fmt.Fprintf(out, "pull_request: %s; drafts %d\n\n", mostOften(a.pullRequests), a.drafts)
}

// mostOften lists the actions that were counted most often.
func mostOften(counts map[string]int) string {
	actions := slices.SortedFunc(maps.Keys(counts), func(x, y string) int {
		return cmp.Or(counts[y]-counts[x], cmp.Compare(x, y))
	})
	const shown = 4
	var words []string
	for _, action := range actions[:min(len(actions), shown)] {
		words = append(words, fmt.Sprintf("%s %d", action, counts[action]))
	}
	if n := len(actions) - shown; n > 0 {
		words = append(words, fmt.Sprintf("and %d other actions", n))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
