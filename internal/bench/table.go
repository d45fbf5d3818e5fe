package bench

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Print writes the report for people.
func (r *Report) Print(w io.Writer) error {
	p := &printing{w: w}
	p.line("%d CPUs (%s), %s/%s, %s; medians of %d rounds, lowest to highest in brackets",
		r.Machine.CPUs, r.Machine.Processor, r.Machine.OS, r.Machine.Architecture, r.Machine.Go, r.Settings.Rounds)
	for _, s := range r.Sections {
		p.section(s)
	}
	return p.err
}

// printing remembers the first error of its writer.
type printing struct {
	w   io.Writer
	err error
}

func (p *printing) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printing) section(s Section) {
	p.line("\n%s", s.Title)
	var columns []string
	for _, m := range Measures {
		if slices.ContainsFunc(s.Rows, func(r Row) bool { _, has := r.Values[m]; return has }) {
			columns = append(columns, m)
		}
	}
	lines := [][]string{append([]string{"", ""}, columns...)}
	for _, r := range s.Rows {
		cells := []string{places(r.Database, r.Broker), r.Way}
		for _, m := range columns {
			cells = append(cells, cell(r.Values[m]))
		}
		if d := r.Delivery; d != nil && d.Duplicates > 0 {
			cells = append(cells, fmt.Sprintf("%d duplicates", d.Duplicates))
		}
		lines = append(lines, cells)
	}
	p.columns(lines)
	lines = nil
	for _, r := range s.Ratios {
		lines = append(lines, []string{r.Name, cell(r.Stat), r.judgement()})
	}
	if len(lines) > 0 {
		p.line("")
		p.columns(lines)
	}
	for _, fault := range s.Faults {
		p.line("  COUNTS FOR NOTHING: %s", fault)
	}
}

// judgement says what was to be reached.
func (r Ratio) judgement() string {
	want := ""
	switch {
	case r.AtLeast > 0:
		want = fmt.Sprintf("at least %v", r.AtLeast)
	case r.AtMost > 0:
		want = fmt.Sprintf("at most %v", r.AtMost)
	default:
		return ""
	}
	switch {
	case r.Void != "":
		return want + ": void, " + r.Void
	case r.Met():
		return want + ": reached"
	}
	return want + ": MISSED"
}

func cell(s Stat) string {
	if len(s.Rounds) == 0 {
		return ""
	}
	if len(s.Rounds) == 1 {
		return number(s.Median)
	}
	return fmt.Sprintf("%s [%s-%s]", number(s.Median), number(s.Low), number(s.High))
}

// number has three significant digits, and no fewer than stand before the point.
func number(x float64) string {
	if x == 0 || math.Abs(x) >= 100 {
		return strconv.FormatFloat(x, 'f', 0, 64)
	}
	return strconv.FormatFloat(x, 'f', max(0, 2-int(math.Floor(math.Log10(math.Abs(x))))), 64)
}

// columns writes lines with their cells below each other.
func (p *printing) columns(lines [][]string) {
	var widths []int
	for _, cells := range lines {
		for i, c := range cells {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c))
		}
	}
	for _, cells := range lines {
		var b strings.Builder
		for i, c := range cells {
			b.WriteString("  " + c + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c)))
		}
		p.line("%s", strings.TrimRight(b.String(), " "))
	}
}
