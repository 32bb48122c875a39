package main

import (
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The measures of a picture, in pixels.
const (
	pictureWidth = 760
	labelWidth   = 210 // the names, to the left of the bars
	valueWidth   = 190 // the figures, to the right of them
	barHeight    = 14
	rowHeight    = 22
	titleHeight  = 30
	margin       = 16
)

// pictureStyle is readable on white and on black: the picture has a ground of its own.
const pictureStyle = `
  .ground { fill: #ffffff; }
  text { font: 12px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; font-size: 13px; }
  .value { fill: #59636e; }
  .base { fill: #8c959f; }
  .ours { fill: #0969da; }
  .other { fill: #bc4c00; }
  .spread, .one { stroke: #1f2328; stroke-width: 1; }
  .one { stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; }
    text { fill: #f0f6fc; }
    .value { fill: #9198a1; }
    .base { fill: #6e7681; }
    .ours { fill: #4493f8; }
    .other { fill: #db6d28; }
    .spread, .one { stroke: #f0f6fc; }
  }
`

// pictured are the cases of a group that have a picture: what differs by orders of
// magnitude, or has no ratio, has none.
func pictured(g Group) []Case {
	var cases []Case
	for _, c := range g.Cases {
		switch g.Name {
		case "growth", "latency":
			continue
		case "in-process":
			if !strings.HasSuffix(c.Name, ", 64 in flight") {
				continue
			}
		}
		cases = append(cases, c)
	}
	return cases
}

// pictureName is the file of a group's picture.
func pictureName(group string) string { return "benchmarks-" + group + ".svg" }

// writePictures draws each group that has something to draw into a file of dir.
func (r Report) writePictures(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, g := range r.Groups {
		if cases := pictured(g); len(cases) > 0 {
			if err := os.WriteFile(filepath.Join(dir, pictureName(g.Name)), picture(g.Name, cases), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// picture draws the ratios of some cases: a bar for each row, with its spread, and a line
// where the first row stands. They are those of the CPU time where all rows of a case have
// it: what a loop costs while it waits for a server is seen there alone. A picture depends
// on nothing but the figures.
func picture(group string, cases []Case) []byte {
	height := margin
	for _, c := range cases {
		height += titleHeight + rowHeight*len(c.Rows) + margin
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="title desc">`+"\n",
		pictureWidth, height, pictureWidth, height)
	fmt.Fprintf(&b, "<title id=\"title\">%s: cost of a message, as a ratio to the first row</title>\n", escaped(group))
	fmt.Fprintf(&b, "<desc id=\"desc\">%s</desc>\n", escaped(spoken(cases)))
	fmt.Fprintf(&b, "<style>%s</style>\n", pictureStyle)
	fmt.Fprintf(&b, `<rect class="ground" width="%d" height="%d" rx="6"/>`+"\n", pictureWidth, height)
	y := margin
	for _, c := range cases {
		c.draw(&b, y)
		y += titleHeight + rowHeight*len(c.Rows) + margin
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// draw draws one case, from y down.
func (c Case) draw(b *strings.Builder, y int) {
	const width = pictureWidth - 2*margin - labelWidth - valueWidth
	const left = margin + labelWidth
	of, ratios := c.costs()
	most := 1.0
	for _, r := range ratios {
		most = max(most, r.Median)
	}
	most *= 1.1
	at := func(ratio float64) float64 { return left + width*min(ratio, most)/most } // what exceeds it is cut off
	fmt.Fprintf(b, "<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", margin, y+14, escaped(c.Name+of))
	top := y + titleHeight - 4
	for i, r := range c.Rows {
		mid := top + rowHeight*i + rowHeight/2
		ratio := ratios[i]
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\">%s</text>\n", margin, mid+4, escaped(r.Name))
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>\n",
			kindOf(r.Name), left, mid-barHeight/2, at(ratio.Median)-left, barHeight)
		text := "1× = " + nanos(r.Time.Median)
		if of == ofCPU {
			text = "1× = " + nanos(r.CPU.Median)
		}
		if i > 0 {
			fmt.Fprintf(b, "<line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", at(ratio.Min), at(ratio.Max), mid, mid)
			for _, end := range []float64{ratio.Min, ratio.Max} {
				if end <= most {
					fmt.Fprintf(b, "<line class=\"spread\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", at(end), at(end), mid-3, mid+3)
				}
			}
			text = fmt.Sprintf("%s (%s – %s)", times(ratio.Median), times(ratio.Min), times(ratio.Max))
		}
		fmt.Fprintf(b, "<text class=\"value\" x=\"%d\" y=\"%d\">%s</text>\n", left+width+8, mid+4, escaped(text))
	}
	fmt.Fprintf(b, "<line class=\"one\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%d\"/>\n", at(1), at(1), top, top+rowHeight*len(c.Rows))
}

// What the title of a case ends with.
const (
	ofCPU  = ", CPU time"
	ofTime = ", time"
)

// costs are the ratios of the rows to the first one, which has 1, and of what they are.
func (c Case) costs() (of string, ratios []Summary) {
	of = ofCPU
	for i, r := range c.Rows {
		if r.CPU == nil || i > 0 && r.CPURatio == nil {
			of = ofTime
		}
	}
	for i, r := range c.Rows {
		switch {
		case i == 0:
			ratios = append(ratios, Summary{Median: 1, Min: 1, Max: 1})
		case of == ofCPU:
			ratios = append(ratios, *r.CPURatio)
		default:
			ratios = append(ratios, *r.Ratio)
		}
	}
	return of, ratios
}

// kindOf is the class of a bar.
func kindOf(name string) string {
	switch {
	case name == rowModule, name == rowRuntime, strings.HasPrefix(name, "gostream"):
		return "ours"
	case strings.HasPrefix(name, "watermill"):
		return "other"
	default:
		return "base"
	}
}

// spoken is what a picture shows, for those who cannot see it.
func spoken(cases []Case) string {
	var b strings.Builder
	for _, c := range cases {
		if b.Len() > 0 {
			b.WriteString(" ")
		}
		of, ratios := c.costs()
		fmt.Fprintf(&b, "%s%s:", c.Name, of)
		for i, r := range c.Rows {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " %s %s", r.Name, times(ratios[i].Median))
		}
		b.WriteString(".")
	}
	return b.String()
}

func escaped(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // into memory
	return b.String()
}
