package docpage

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSame(t *testing.T) {
	t.Parallel()
	page := filepath.Join(t.TempDir(), "page.md")
	write := func(text string) {
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const marked = "A\n<!-- x: begin -->\n\nold\n\n<!-- x: end -->\nB\n"
	write(marked)
	if Same(t, page, "x", "\nold\n", false, "that"); t.Failed() {
		t.Fatal("the same is taken for something else")
	}
	if got, err := replace(marked, "x", "new"); err != nil || got != "A\n<!-- x: begin -->\n\nnew\n\n<!-- x: end -->\nB\n" {
		t.Errorf("replaced to %q, %v", got, err)
	}
	Same(t, page, "x", "new", true, "that")
	Same(t, page, "x", "new", false, "that")
	if _, err := replace(marked, "y", "new"); err == nil {
		t.Error("marks that are not there are found")
	}
	var other recorder
	other.TB = t
	Same(&other, page, "x", "newer", false, "that")
	if !other.failed {
		t.Error("a table that is out of date does not fail")
	}
}

// recorder notes a failure.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }
func (r *recorder) Helper()               {}
