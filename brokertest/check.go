package brokertest

import (
	"errors"
	"fmt"
	"strings"
)

// check is one rule of the contract and the function that tries it.
type check struct {
	name  string // unique within the group; lower case with hyphens
	group string
	rule  string // one sentence, as the contract says it
	where string // where the contract says it: "broker.Subscription, Receive"
	needs []need
	slow  bool             // the watchdog allows it five times as long
	run   func(*env) error // nil, what was seen, or e.notApplicable
}

func (c *check) fullName() string { return c.group + "/" + c.name }

// group is the checks of one subject.
type group struct {
	name   string
	checks []check
}

// groups returns all checks in the order in which they run.
func groups() []group {
	return []group{
		{"shape", shapeChecks},
		{"settlement", settlementChecks},
		{"order", orderChecks},
		{"readiness", readinessChecks},
		{"lifecycle", lifecycleChecks},
		{"cancellation", cancellationChecks},
		{"concurrency", concurrencyChecks},
		{"batch-receive", batchReceiveChecks},
		{"batch-publish", batchPublishChecks},
		{"transactions", transactionChecks},
		{"request-reply", requestChecks},
		{"keys", keyChecks},
		{"delivery-count", countChecks},
		{"lease", leaseStateChecks},
		{"matching", matchingChecks},
		{"describe", describeChecks},
		{"health", healthChecks},
		{"lag", lagChecks},
		{"resilience", resilienceChecks},
		{"leaks", leakChecks},
	}
}

// allChecks yields the checks in their order.
func allChecks(yield func(*check) bool) {
	for _, g := range groups() {
		for i := range g.checks {
			c := g.checks[i] // a copy: several suites may run at once
			c.group = g.name
			if !yield(&c) {
				return
			}
		}
	}
}

func isKnown(name string) bool {
	for c := range allChecks {
		if c.group == name || c.fullName() == name {
			return true
		}
	}
	return false
}

// Check describes one check of the kit.
type Check struct {
	// Name is unique: the group, a slash and a name within the group.
	Name string
	// Group is the subject: "shape", "settlement" …
	Group string
	// Rule is what the check proves, in one sentence.
	Rule string
	// Where is the place in package broker where the rule is written.
	Where string
	// Needs says what the check is not applicable without.
	Needs []string
}

// Checks lists every check in the order in which [Run] runs them.
func Checks() []Check {
	var list []Check
	for c := range allChecks {
		list = append(list, c.describe())
	}
	return list
}

func (c *check) describe() Check {
	d := Check{Name: c.fullName(), Group: c.group, Rule: c.rule, Where: c.where}
	for _, n := range c.needs {
		d.Needs = append(d.Needs, n.what)
	}
	return d
}

// Failure is the error of a check that failed. It unwraps to what was seen.
type Failure struct {
	// Check is the check that failed.
	Check Check
	// Seen says what was seen instead of what the rule says.
	Seen error
}

// Error returns the rule, what was seen and where the rule is written.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s\n\trule:  %s\n\tseen:  %s\n\twhere: %s",
		f.Check.Name, f.Check.Rule, strings.ReplaceAll(f.Seen.Error(), "\n", "\n\t       "), f.Check.Where)
}

// Unwrap returns what was seen.
func (f *Failure) Unwrap() error { return f.Seen }

// inapplicable is the answer of a check that has nothing to try.
type inapplicable struct{ reason string }

func (i *inapplicable) Error() string { return "not applicable: " + i.reason }

// omitted is the answer of a check that the harness skips.
type omitted struct{ reason string }

func (o *omitted) Error() string { return "skipped by the harness: " + o.reason }

// isInapplicable reports whether err says that a check had nothing to try, and why.
func isInapplicable(err error) (reason string, ok bool) {
	var i *inapplicable
	if errors.As(err, &i) {
		return i.reason, true
	}
	return "", false
}
