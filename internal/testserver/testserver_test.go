package testserver

import (
	"fmt"
	"strings"
	"testing"
)

// Not parallel: they set environment variables.
func TestAddress(t *testing.T) {
	t.Setenv("GOSTREAM_TEST_ADDRESS", "there:1")
	if got := Address(t, "GOSTREAM_TEST_ADDRESS", "here:1", "./x"); got != "there:1" {
		t.Errorf("the address is %q", got)
	}
	t.Setenv("GOSTREAM_TEST_ADDRESS", "")
	t.Setenv(Required, "")
	if r := try(t); r.skipped == "" || !strings.Contains(r.skipped, "GOSTREAM_TEST_ADDRESS=here:1 go test -run '^TestAddress$' ./x") {
		t.Errorf("without an address: %+v", r)
	}
	t.Setenv(Required, "GOSTREAM_TEST_OTHER")
	if r := try(t); r.skipped == "" || r.failed != "" {
		t.Errorf("without an address, another being required: %+v", r)
	}
	t.Setenv(Required, "GOSTREAM_TEST_OTHER,GOSTREAM_TEST_ADDRESS")
	if r := try(t); r.failed == "" {
		t.Errorf("without an address that is required: %+v", r)
	}
}

func try(t *testing.T) *recorder {
	r := &recorder{TB: t}
	Address(r, "GOSTREAM_TEST_ADDRESS", "here:1", "./x")
	return r
}

// recorder goes on where a test would end.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Skipf(format string, args ...any)  { r.skipped = fmt.Sprintf(format, args...) }
func (r *recorder) Fatalf(format string, args ...any) { r.failed = fmt.Sprintf(format, args...) }
