package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
)

// What a plot looks like, in pixels.
const (
	plotLeft, plotWidth = 190, 560
	barHeight, barGap   = 16, 6
	groupGap            = 34
)

// colours are the ways', readable beside each other by everybody.
var colours = map[string]string{
	wayRawDatabase: "#bbbbbb", wayRawBroker: "#999999", wayBare: "#88ccee",
	wayLockstep: "#117733", wayBatched: "#ddaa33", wayTextbook: "#cc3311",
}

// SVG draws the drain section: a group of bars for each pair, on a logarithmic scale, with a line from the lowest round to the
// highest. Without that section it is an empty picture.
func (r *Report) SVG() []byte {
	var s Section
	for _, section := range r.Sections {
		if section.Name == Drain {
			s = section
		}
	}
	groups := plotGroups(s)
	height := 30
	for _, g := range groups {
		height += groupGap + len(g.rows)*(barHeight+barGap)
	}
	p := &plot{}
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`, plotLeft+plotWidth+90, height)
	p.add(`<rect width="100%%" height="100%%" fill="#ffffff"/>`)
	p.add(`<text x="10" y="20" font-weight="bold">%s: events per second</text>`, escaped(s.Title))
	y := 30
	for _, g := range groups {
		p.add(`<text x="10" y="%d" font-weight="bold">%s</text>`, y+22, escaped(g.name))
		y += groupGap
		for _, row := range g.rows {
			p.bar(y, row)
			y += barHeight + barGap
		}
	}
	p.add(`</svg>`)
	return p.Bytes()
}

type plotGroup struct {
	name string
	rows []Row
}

// plotGroups puts the limits of a pair's servers above its ways.
func plotGroups(s Section) (groups []plotGroup) {
	for _, row := range s.Rows {
		if row.Way != wayLockstep {
			continue
		}
		g := plotGroup{name: places(row.Database, row.Broker)}
		for _, bar := range []struct{ database, broker, way string }{
			{row.Database, "", wayRawDatabase},
			{"", row.Broker, wayRawBroker},
			{row.Database, row.Broker, wayBare},
			{row.Database, row.Broker, wayLockstep},
			{row.Database, row.Broker, wayBatched},
			{row.Database, row.Broker, wayTextbook},
		} {
			if found := s.find(bar.database, bar.broker, bar.way); found != nil {
				g.rows = append(g.rows, *found)
			}
		}
		groups = append(groups, g)
	}
	return groups
}

type plot struct{ bytes.Buffer }

func (p *plot) add(format string, args ...any) { fmt.Fprintf(&p.Buffer, format+"\n", args...) }

// across is a rate's place on a scale from 100 to 10 million.
func across(rate float64) int {
	const low, decades = 100, 5
	return plotLeft + int(plotWidth*min(1, max(0, math.Log10(rate/low)/decades)))
}

func (p *plot) bar(y int, row Row) {
	v := row.Values["events/s"]
	p.add(`<text x="20" y="%d">%s</text>`, y+13, escaped(row.Way))
	p.add(`<rect x="%d" y="%d" width="%d" height="%d" fill="%s"/>`, plotLeft, y, across(v.Median)-plotLeft, barHeight, colours[row.Way])
	p.add(`<line x1="%d" x2="%d" y1="%d" y2="%[3]d" stroke="#000000"/>`, across(v.Low), across(v.High), y+barHeight/2)
	p.add(`<text x="%d" y="%d">%s</text>`, across(v.High)+6, y+13, number(v.Median))
}

func escaped(s string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(s)) // a buffer takes everything
	return b.String()
}
