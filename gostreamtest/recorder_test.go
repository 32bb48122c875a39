package gostreamtest_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a testing.TB that records how a test failed.
type recorder struct {
	testing.TB
	said     []string
	fatal    bool
	cleanups []func()
}

func (r *recorder) Helper()          {}
func (r *recorder) Failed() bool     { return len(r.said) > 0 }
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.fatal = true
	r.Errorf(format, args...)
	runtime.Goexit()
}

// failing runs a test that is to fail, and returns what it said.
func failing(t *testing.T, test func(t testing.TB)) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer func() {
			for i := len(r.cleanups) - 1; i >= 0; i-- {
				r.cleanups[i]()
			}
		}()
		test(r)
	}()
	<-ended
	if len(r.said) == 0 {
		t.Error("the test did not fail")
	}
	return r
}

// wants checks that one of the messages holds each of the texts.
func (r *recorder) wants(t *testing.T, texts ...string) {
	t.Helper()
	all := strings.Join(r.said, "\n")
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("the failure does not say %q:\n%s", text, all)
		}
	}
}
