// Package docpage keeps tables of the documentation equal to what a test has seen.
package docpage

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

var writing sync.Mutex // several tests write into one page

// Same compares what stands between the lines <!-- name: begin --> and <!-- name: end -->
// of a page with want, but for blank lines around it. With update it writes want there
// instead; remedy says in a failure how that is done. It may be called concurrently.
func Same(t testing.TB, page, name, want string, update bool, remedy string) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := replace(string(data), name, want)
	switch {
	case err != nil:
		t.Fatalf("%s: %v", page, err)
	case changed == string(data):
	case !update:
		t.Errorf("the table %q of %s is out of date: run %s", name, page, remedy)
	default:
		if err := os.WriteFile(page, []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// replace returns text with what stands between the marks of name replaced.
func replace(text, name, by string) (string, error) {
	begin, end := fmt.Sprintf("<!-- %s: begin -->\n", name), fmt.Sprintf("<!-- %s: end -->", name)
	before, rest, ok := strings.Cut(text, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("it has no %q and %q", strings.TrimSpace(begin), end)
	}
	return before + begin + "\n" + strings.TrimSpace(by) + "\n\n" + end + after, nil
}
