package house

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gostream/gostream/internal/docpage"
)

//go:generate go test -run ^TestMatrix$ -update .

var update = flag.Bool("update", false, "write the matrix of the brokers into README.md")

// The matrix in README.md is what the conformance kit has printed into the guides of the
// brokers, side by side.
func TestMatrix(t *testing.T) {
	t.Parallel()
	root := rootDir(t)
	columns := []struct{ title, page, table string }{
		{"memory", "docs/memory.md", "memory"},
		{"Core NATS", "docs/brokers/nats.md", "core"},
		{"JetStream", "docs/brokers/nats.md", "stream"},
		{"Kafka group", "docs/brokers/kafka.md", "group"},
		{"Kafka reader", "docs/brokers/kafka.md", "reader"},
	}
	head, rule := "| |", "|---|"
	var names []string
	cells := map[string]string{}
	for _, c := range columns {
		head += " " + c.title + " |"
		rule += "---|"
		rows := kitRows(t, readFile(t, filepath.Join(root, filepath.FromSlash(c.page))), c.table)
		if len(names) > 0 && len(rows) != len(names) {
			t.Errorf("%s: the table %q has %d rows, that of %s %d", c.page, c.table, len(rows), columns[0].title, len(names))
		}
		first := len(names) == 0
		for _, r := range rows {
			if first {
				names = append(names, r.name)
			}
			cells[r.name] += " " + r.value + " |"
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n", head, rule)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |%s\n", name, cells[name])
	}
	docpage.Same(t, filepath.Join(root, "README.md"), "matrix", b.String(), *update, "go generate ./internal/house")
}

type kitRow struct{ name, value string }

// kitRows reads the tables of one run of the kit out of a page: whether a capability is
// there, and what was seen of a property, else what is declared.
func kitRows(t *testing.T, page, table string) (rows []kitRow) {
	t.Helper()
	_, rest, ok := strings.Cut(page, "<!-- "+table+": begin -->")
	text, _, ok2 := strings.Cut(rest, "<!-- "+table+": end -->")
	if !ok || !ok2 {
		t.Fatalf("there is no table %q", table)
	}
	for line := range strings.Lines(text) {
		fields := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		if len(fields) < 2 || fields[0] == "capability" || fields[0] == "property" || strings.HasPrefix(fields[0], "---") {
			continue
		}
		value := fields[1]
		if len(fields) == 3 && fields[2] != "-" {
			value = fields[2]
		}
		rows = append(rows, kitRow{fields[0], value})
	}
	if len(rows) == 0 {
		t.Fatalf("the table %q has no rows", table)
	}
	return rows
}
