// Package testserver finds the servers that tests talk to.
package testserver

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// Required is the environment variable that lists variables, with commas between them,
// whose tests must not be skipped. CI sets it to those of the servers that it has.
const Required = "GOSTREAM_REQUIRE_SERVERS"

// Address returns the address in the environment variable of that name. Where it is not
// set the test is skipped, with the command that runs it: example is an address, pkg
// what to give to go test. Where [Required] names it the test fails instead.
func Address(t testing.TB, variable, example, pkg string) string {
	t.Helper()
	address := os.Getenv(variable)
	if address != "" {
		return address
	}
	const text = "%s is not set; this runs the test: %[1]s=%s go test -run '^%s$' %s"
	if slices.Contains(strings.Split(os.Getenv(Required), ","), variable) {
		t.Fatalf(text, variable, example, t.Name(), pkg)
	}
	t.Skipf(text, variable, example, t.Name(), pkg)
	return ""
}
