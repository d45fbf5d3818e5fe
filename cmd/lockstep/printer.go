package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"
)

// printer writes lines and tables. The first error of the writer is kept.
type printer struct {
	out   *bufio.Writer
	table *tabwriter.Writer
}

func newPrinter(w io.Writer) *printer {
	out := bufio.NewWriter(w)
	return &printer{out, tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
}

// line writes a line of its own.
func (p *printer) line(format string, args ...any) {
	_ = p.table.Flush()                             // the writer below keeps its error
	_, _ = fmt.Fprintf(p.out, format+"\n", args...) // so does this one
}

// row writes a line of a table.
func (p *printer) row(cells ...any) {
	texts := make([]string, len(cells))
	for i, cell := range cells {
		texts[i] = clean(fmt.Sprint(cell))
	}
	_, _ = fmt.Fprintln(p.table, strings.Join(texts, "\t"))
}

func (p *printer) flush() error {
	_ = p.table.Flush()
	return p.out.Flush()
}

// clean makes a text that came from elsewhere one line that a terminal only shows.
func clean(text string) string {
	if !utf8.ValidString(text) {
		text = strings.ToValidUTF8(text, "\uFFFD")
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}

// short cuts a text to n characters.
func short(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}

func ago(at time.Time) string { return time.Since(at).Round(time.Second).String() + " ago" }

// stamp is a time as commands print it.
func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05Z") }
