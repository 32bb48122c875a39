package asyncapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Changes are what [Diff] found.
type Changes struct {
	// List has the breaking changes first, then by where they are.
	List []Change
}

// Change is one difference between two documents.
type Change struct {
	// Breaking: programs of others that work with the old document may fail with the new
	// one.
	Breaking bool `json:"breaking"`
	// Rule is the row of the table in the guide that the change falls under:
	// "field-removed".
	Rule string `json:"rule"`
	// Where is the place: "operation orders.receive, message Order, field lines[].price".
	Where string `json:"where"`
	// What is the change, in words.
	What string `json:"what"`
}

// String is the change on one line.
func (c Change) String() string { return c.Where + ": " + c.What + " [" + c.Rule + "]" }

// Breaking reports whether any change is breaking.
func (c *Changes) Breaking() bool {
	return c != nil && slices.ContainsFunc(c.List, func(one Change) bool { return one.Breaking })
}

// Text is the changes for people: a line for each, the breaking ones first, or "no
// changes". It ends with a newline.
func (c *Changes) Text() string {
	if c == nil || len(c.List) == 0 {
		return "no changes\n"
	}
	var b strings.Builder
	for _, breaking := range [...]bool{true, false} {
		var lines []string
		for _, one := range c.List {
			if one.Breaking == breaking {
				lines = append(lines, "  "+one.String()+"\n")
			}
		}
		if len(lines) == 0 {
			continue
		}
		what := "not breaking"
		if breaking {
			what = "breaking"
		}
		fmt.Fprintf(&b, "%s: %d\n%s", what, len(lines), strings.Join(lines, ""))
	}
	return b.String()
}

// String is [Changes.Text].
func (c *Changes) String() string { return c.Text() }

// MarshalJSON is {"breaking": true, "changes": [{"breaking": …, "rule": …, "where": …,
// "what": …}]}, with an empty list where there are none.
func (c *Changes) MarshalJSON() ([]byte, error) {
	list := []Change{}
	if c != nil && c.List != nil {
		list = c.List
	}
	return json.Marshal(struct {
		Breaking bool     `json:"breaking"`
		Changes  []Change `json:"changes"`
	}{c.Breaking(), list})
}

// sort puts the breaking changes first; those of one place stay in their order.
func (c *Changes) sort() {
	slices.SortStableFunc(c.List, func(x, y Change) int {
		if x.Breaking != y.Breaking {
			if x.Breaking {
				return -1
			}
			return 1
		}
		return cmp.Compare(x.Where, y.Where)
	})
}
