package dirbroker

import (
	"strings"
	"testing"
)

func TestEntry(t *testing.T) {
	t.Parallel()
	for _, e := range []entry{
		{seq: 1, from: "abc"},
		{seq: 1<<63 - 1, from: "x2", count: 12, due: 1 << 62},
	} {
		if got, ok := parseEntry(e.String()); !ok || got != e {
			t.Errorf("%v came back as %v, %v", e, got, ok)
		}
	}
	for _, name := range []string{"", "orders", "1-2-3", "1-2-3-4-5", "1-a-0-0", "000000000000000000x-a-0-0", entry{from: "a"}.String() + "~"} {
		if e, ok := parseEntry(name); ok {
			t.Errorf("%q is taken for %v", name, e)
		}
	}
}

// The order of the names is the order of delivery: of the publishes, whatever the
// counts and the connections are.
func TestEntriesSort(t *testing.T) {
	t.Parallel()
	first := entry{seq: nextSeq(), from: "zzz", count: 100, due: 1}.String()
	second := entry{seq: nextSeq(), from: "aaa"}.String()
	if strings.Compare(first, second) >= 0 {
		t.Errorf("%s does not sort before %s", first, second)
	}
}

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "orders", "orders.dead", "o-1_2", "a..b", strings.Repeat("o", MaxName)} {
		if err := checkName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "..", ".a", "a.", "a/b", `a\b`, "a/../../b", "A", "ä", "a b", "a\n", "a\x00", "a:b", "*", strings.Repeat("o", MaxName+1)} {
		if checkName(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
}
