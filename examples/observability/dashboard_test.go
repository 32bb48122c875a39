package main

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// dashboard is as much of Grafana's format as a dashboard must have to be imported.
type dashboard struct {
	UID, Title    string
	ID            *int
	SchemaVersion int
	Time          struct{ From, To string }
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			Datasource *source
		}
	}
	Panels []panel
}

type source struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	Datasource               *source
	GridPos                  struct{ H, W, X, Y int }
	Panels                   *[]panel
	Targets                  []struct {
		RefID, Expr    string
		Datasource     *source
		Range, Instant bool
	}
}

// builtIn are variables that Grafana has by itself.
var builtIn = []string{"__rate_interval", "__range", "__all"}

// The dashboard can be imported as it is: it has no id of another Grafana, asks for the data
// source by a variable, and each panel has its own id and its own place.
func TestDashboardImports(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../deploy/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.ID != nil || d.UID == "" || len(d.UID) > 40 || d.Title == "" || d.SchemaVersion < 30 || d.Time.From == "" || d.Time.To == "" {
		t.Errorf("the dashboard's id is %v, uid %q, title %q, schema %d, time %v", d.ID, d.UID, d.Title, d.SchemaVersion, d.Time)
	}
	const byVariable = "${datasource}"
	variables := slices.Clone(builtIn)
	for _, v := range d.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "query" && (v.Datasource == nil || v.Datasource.UID != byVariable) {
			t.Errorf("variable %s has the data source %v", v.Name, v.Datasource)
		}
	}
	if first := d.Templating.List[0]; first.Name != "datasource" || first.Type != "datasource" || string(first.Query) != `"prometheus"` {
		t.Errorf("the first variable is %+v, want the data source: the others need it", first)
	}
	variableRE := regexp.MustCompile(`\$\{?(\w+)`)
	for _, m := range variableRE.FindAllStringSubmatch(string(data), -1) {
		if !slices.Contains(variables, m[1]) {
			t.Errorf("$%s is no variable", m[1])
		}
	}
	ids := map[int]bool{}
	place := map[[2]int]string{} // the panel on each unit of the grid
	for _, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			t.Errorf("panel %q has the id %d, which is taken or none", p.Title, p.ID)
		}
		ids[p.ID] = true
		for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				if other, taken := place[[2]int{x, y}]; taken || x >= 24 {
					t.Fatalf("panel %q lies over %q, or outside of the grid", p.Title, other)
				}
				place[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			if p.Panels == nil || len(*p.Panels) > 0 {
				t.Errorf("row %q: panels is %v, want an empty list", p.Title, p.Panels)
			}
			continue
		}
		if p.Datasource == nil || p.Datasource.Type != "prometheus" || p.Datasource.UID != byVariable || strings.TrimSpace(p.Description) == "" {
			t.Errorf("panel %q has the data source %v and says of itself %q", p.Title, p.Datasource, p.Description)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] || target.Range == target.Instant || target.Datasource == nil || target.Datasource.UID != byVariable {
				t.Errorf("panel %q: a query is %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
	}
}
