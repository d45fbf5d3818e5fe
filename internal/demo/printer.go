package demo

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Printer shows a run to a person: with colours and a line that moves in a terminal, in plain lines elsewhere.
type Printer struct {
	out     io.Writer
	live    bool
	err     error     // the first that out returned; nothing is printed after it
	started time.Time // the service at work
	drawn   time.Time // the moving line
}

// NewPrinter returns a printer to out. live says that out is a terminal of at least [LiveWidth] columns.
func NewPrinter(out io.Writer, live bool) *Printer { return &Printer{out: out, live: live} }

const (
	titleWidth = 22
	cellWidth  = 9
	barWidth   = 30
	textWidth  = 78
	redraw     = 50 * time.Millisecond
)

// LiveWidth is how wide a terminal must be for the table's frame and the moving line. A narrower one breaks lines, which
// plain text survives.
const LiveWidth = 1 + titleWidth + 2 + columns*(cellWidth+3) + 1

const columns = 4

// Err returns the first error of the writer. Nothing was printed after it.
func (p *Printer) Err() error { return p.err }

func (p *Printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.out, format, args...)
	}
}

// Start says what is going to happen.
func (p *Printer) Start(config Config) {
	f := config.Faults()
	p.line("%s", p.style(bold, fmt.Sprintf("Lockstep demo: %d orders, placed with four services (seed %d)", config.Orders, config.Seed)))
	p.line("")
	p.text("", fmt.Sprintf("Each service meets the same faults: kill -9 between its two writes (%d times), a broker that is away (%d), "+
		"a broker that stores the event but whose answer is lost (%d), INSERTs that fail (%d), COMMITs that fail (%d). Half of the "+
		"customers who are let down try again. Lockstep's relay is killed too (%d).",
		f.Crash, f.BrokerAway, f.AnswerLost, f.StatementFails, f.CommitFails, f.RelayCrash))
	p.line("")
	p.started = time.Now()
}

// Progress shows how far a service has come.
func (p *Printer) Progress(at Progress) {
	if at.Result != nil {
		p.clear()
		kills := at.Result.Kills
		killed := many(kills.Service, "kill")
		if kills.Relay > 0 {
			killed += ", of its relay " + strconv.Itoa(kills.Relay)
		}
		done := "done:"
		if p.live {
			done = p.style(green, "✓")
		}
		p.line("%s %-*s %5.1f s  %s", done, titleWidth, at.Title, time.Since(p.started).Seconds(), killed)
		p.started = time.Now()
		return
	}
	if !p.live || time.Since(p.drawn) < redraw {
		return
	}
	p.drawn = time.Now()
	full := barWidth * at.Done / at.Total
	p.printf("\r  %-*s %s%s %d/%d\x1b[K", titleWidth, at.Title,
		p.style(cyan, strings.Repeat("━", full)), p.style(dim, strings.Repeat("━", barWidth-full)), at.Done, at.Total)
}

// Abort removes the moving line.
func (p *Printer) Abort() { p.clear() }

// Finish shows the table and what it means.
func (p *Printer) Finish(report Report) {
	p.line("")
	p.table(report.Services)
	verdict := report.Check()
	for _, s := range report.Services {
		if s.Name != lockstepName || verdict == nil {
			p.line("")
			p.line("%s", p.style(bold, s.Title))
			p.text("  ", explain(s))
		}
	}
	p.line("")
	if verdict == nil {
		p.line("%s", p.style(green, "Lockstep: every order has its event, every event its order, no effect twice."))
	} else {
		p.line("%s", p.style(red, "Lockstep's row is wrong: this is a bug."))
	}
	p.line("")
	p.line("The same again:  lockstep demo --seed %d --orders %d", report.Seed, report.Orders)
	p.line("                 (from the source: go run ./cmd/lockstep demo ...)")
	p.line("Read next:       internal/demo/lockstep.go beside inside_tx.go, and core/doc.go")
	p.line("                 at https://github.com/lockstep-go/lockstep")
}

// explain says what a service's counts mean.
func explain(s Result) string {
	c := s.Counts
	switch s.Name {
	case "database_first":
		if c.OrdersWithoutEvent == 0 {
			return "No order lost its event this time. A crash or an absent broker between COMMIT and publish loses it, and " +
				"trying again does not help: the service finds the order and says \"done\"."
		}
		return fmt.Sprintf("%s nobody will ship. The order was committed, and a crash or an absent broker swallowed its "+
			"event. Trying again does not help: the service finds the order and says \"done\".", many(c.OrdersWithoutEvent, "order"))
	case "broker_first":
		return shipped(c) + " The event is out before the order is safe, and a second attempt sends a second event: with a new " +
			"id, so that the consumer cannot recognise it."
	case "inside_tx":
		return shipped(c) + " A failed INSERT now stops the event; a crash before COMMIT, a failed COMMIT and a lost answer do " +
			"not, because a broker does not roll back."
	case lockstepName:
		repeats := "nothing here"
		if c.EventsDeliveredTwice > 0 {
			repeats = many(c.EventsDeliveredTwice, "time") + " here"
		}
		return "The event is a row, committed with its order or not at all. The relay repeats what it cannot be sure of, " +
			repeats + ", under the same id: the consumer recognises it."
	}
	return ""
}

// shipped says what became of events that were sent before COMMIT.
func shipped(c Counts) string {
	if c.EventsWithoutOrder == 0 && c.EffectsAppliedTwice == 0 {
		return "No order was shipped wrongly this time."
	}
	return fmt.Sprintf("%s shipped that the shop does not know, %d shipped twice.", many(c.EventsWithoutOrder, "order"), c.EffectsAppliedTwice)
}

var heads = [columns][3]string{
	{"orders", "without", "an event"},
	{"events", "without", "an order"},
	{"events", "delivered", "twice"},
	{"effects", "applied", "twice"},
}

// table draws the counts, 80 columns wide at most.
func (p *Printer) table(services []Result) {
	p.rule("┌", "┬", "┐")
	for i := range len(heads[0]) {
		var cells []string
		for _, head := range heads {
			cells = append(cells, p.cell("", head[i]))
		}
		p.row("", "", cells)
	}
	p.rule("├", "┼", "┤")
	for _, s := range services {
		c := s.Counts
		title := ""
		if s.Name == lockstepName {
			title = bold
		}
		repeats := red
		if c.EffectsAppliedTwice == 0 {
			repeats = yellow // the consumer recognised them
		}
		p.row(title, s.Title, []string{
			p.number(red, c.OrdersWithoutEvent), p.number(red, c.EventsWithoutOrder),
			p.number(repeats, c.EventsDeliveredTwice), p.number(red, c.EffectsAppliedTwice),
		})
	}
	p.rule("└", "┴", "┘")
}

// rule draws a line between rows, where there are box characters to draw it with.
func (p *Printer) rule(left, cross, right string) {
	if p.live {
		column := cross + strings.Repeat("─", cellWidth+2)
		p.line("%s", p.style(dim, left+strings.Repeat("─", titleWidth+2)+strings.Repeat(column, len(heads))+right))
	}
}

func (p *Printer) row(style, title string, cells []string) {
	bar := ""
	if p.live {
		bar = p.style(dim, "│")
	}
	line := bar + " " + p.style(style, fmt.Sprintf("%-*s", titleWidth, title)) + " "
	for _, cell := range cells {
		line += bar + " " + cell + " "
	}
	p.line("%s", strings.TrimRight(line+bar, " "))
}

// cell is text at the right of a column.
func (p *Printer) cell(style, text string) string {
	return strings.Repeat(" ", max(0, cellWidth-len(text))) + p.style(style, text)
}

// number is a cell that is green when n is 0.
func (p *Printer) number(style string, n int) string {
	if n == 0 {
		style = green
	}
	return p.cell(style, strconv.Itoa(n))
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

func (p *Printer) style(code, text string) string {
	if !p.live || code == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (p *Printer) line(format string, args ...any) { p.printf(format+"\n", args...) }

// text prints s in lines of at most textWidth columns.
func (p *Printer) text(indent, s string) {
	line := indent
	for word := range strings.FieldsSeq(s) {
		switch {
		case line == indent:
			line += word
		case len(line)+1+len(word) > textWidth:
			p.line("%s", line)
			line = indent + word
		default:
			line += " " + word
		}
	}
	p.line("%s", line)
}

func (p *Printer) clear() {
	if p.live {
		p.printf("\r\x1b[K")
	}
}

func many(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}
