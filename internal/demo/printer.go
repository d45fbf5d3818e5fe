package demo

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Printer shows a run to a person: with colours and a line that moves in a terminal, in plain lines elsewhere.
type Printer struct {
	out     io.Writer
	live    bool
	started time.Time // the service at work
	drawn   time.Time // the moving line
}

// NewPrinter returns a printer to out. live says that out is a terminal.
func NewPrinter(out io.Writer, live bool) *Printer { return &Printer{out: out, live: live} }

const (
	titleWidth = 22
	barWidth   = 30
	redraw     = 50 * time.Millisecond
)

// Start says what is going to happen.
func (p *Printer) Start(config Config) {
	f := config.Faults()
	p.line("%s", p.style(bold, fmt.Sprintf("Lockstep demo: %d orders, placed with four services (seed %d)", config.Orders, config.Seed)))
	p.line("")
	p.line("Each service meets the same faults: %s with kill -9 between its two writes,", many(f.Crash, "crash", "crashes"))
	p.line("%s by the broker, %s of the broker's answers lost, %s and", many(f.BrokerAway, "refusal", "refusals"), number(f.AnswerLost), many(f.StatementFails, "failed INSERT", "failed INSERTs"))
	p.line("%s. Half of the customers who are let down try again.", many(f.CommitFails, "failed COMMIT", "failed COMMITs"))
	p.line("Lockstep's relay is killed too, %s.", many(f.RelayCrash, "time", "times"))
	p.line("")
	p.started = time.Now()
}

// Progress shows how far a service has come.
func (p *Printer) Progress(at Progress) {
	if at.Result != nil {
		p.clear()
		kills := at.Result.Kills
		killed := many(kills.Service, "kill", "kills")
		if kills.Relay > 0 {
			killed += ", of its relay " + strconv.Itoa(kills.Relay)
		}
		p.line("%s %-*s %5.1f s  %s", p.style(green, p.sign("✓", "done:")), titleWidth, at.Title, time.Since(p.started).Seconds(), killed)
		p.started = time.Now()
		return
	}
	if !p.live || time.Since(p.drawn) < redraw {
		return
	}
	p.drawn = time.Now()
	full := barWidth * at.Done / at.Total
	fmt.Fprintf(p.out, "\r  %-*s %s%s %d/%d\x1b[K", titleWidth, at.Title,
		p.style(cyan, strings.Repeat("━", full)), p.style(dim, strings.Repeat("━", barWidth-full)), at.Done, at.Total)
}

// Abort removes the moving line.
func (p *Printer) Abort() { p.clear() }

// Finish shows the table and what it means.
func (p *Printer) Finish(report Report) {
	p.line("")
	p.table(report)
	p.line("")
	for _, s := range report.Services {
		if lines, ok := explanations[s.Name]; ok {
			p.line("%s", p.style(bold, s.Title))
			p.line("  %s", strings.ReplaceAll(lines, "\n", "\n  "))
		}
	}
	p.line("")
	if err := report.Check(); err == nil {
		p.line("%s", p.style(green, "Lockstep: no order without its event, no event without its order, no effect twice."))
	} else {
		p.line("%s", p.style(red, "Lockstep's row is not 0 / 0 / n / 0: this is a bug."))
	}
	p.line("")
	p.line("The same again:  lockstep demo --seed %d --orders %d", report.Seed, report.Orders)
	p.line("Read next:       internal/demo/lockstep.go beside inside_tx.go, then core/doc.go:")
	p.line("                 https://github.com/lockstep-go/lockstep")
}

var explanations = map[string]string{
	"database_first": "The order is in, and then a crash or an absent broker swallows the event. Trying again\n" +
		"does not help: the service finds the order and says \"done\". Nobody ships it.",
	"broker_first": "The event is out, and then no order follows: shipped, but never sold. Who tries again\n" +
		"causes a second event with a new id, so the consumer cannot recognise it and ships twice.",
	"inside_tx": "A failed INSERT now stops the event. A failed COMMIT, a crash before COMMIT and a lost\n" +
		"answer do not: the broker does not roll back.",
	lockstepName: "The event is a row, committed with the order or not at all. The relay repeats what it is\n" +
		"not sure of, under the same id: delivered twice, recognised, applied once.",
}

// table draws the counts.
func (p *Printer) table(report Report) {
	heads := [][2]string{{"orders without", "an event"}, {"events without", "an order"}, {"events", "delivered twice"}, {"effects", "applied twice"}}
	const width = 15
	rule := func(left, cross, right string) {
		if p.live {
			p.line("%s", p.style(dim, left+strings.Repeat("─", titleWidth+2)+strings.Repeat(cross+strings.Repeat("─", width+2), len(heads))+right))
		}
	}
	row := func(title string, cells ...string) {
		bar := p.style(dim, p.sign("│", ""))
		line := bar + " " + title + " "
		for _, cell := range cells {
			line += bar + " " + cell + " "
		}
		p.line("%s", strings.TrimRight(line+bar, " "))
	}
	rule("┌", "┬", "┐")
	for i := range 2 {
		var cells []string
		for _, head := range heads {
			cells = append(cells, p.cell("", head[i], width))
		}
		row(strings.Repeat(" ", titleWidth), cells...)
	}
	rule("├", "┼", "┤")
	for _, s := range report.Services {
		c := s.Counts
		title, harm := fmt.Sprintf("%-*s", titleWidth, s.Title), red
		if s.Name == lockstepName {
			title = p.style(bold, title)
		}
		cells := []string{}
		for _, n := range []int{c.OrdersWithoutEvent, c.EventsWithoutOrder, c.EventsDeliveredTwice, c.EffectsAppliedTwice} {
			style := harm
			if n == 0 {
				style = green
			}
			cells = append(cells, p.cell(style, strconv.Itoa(n), width))
		}
		if c.EffectsAppliedTwice == 0 { // then the repeats were recognised
			cells[2] = p.cell(yellow, strconv.Itoa(c.EventsDeliveredTwice), width)
		}
		row(title, cells...)
	}
	rule("└", "┴", "┘")
}

// cell is text at the right of a column.
func (p *Printer) cell(style, text string, width int) string {
	return strings.Repeat(" ", width-utf8.RuneCountInString(text)) + p.style(style, text)
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

func (p *Printer) sign(live, plain string) string {
	if p.live {
		return live
	}
	return plain
}

func (p *Printer) line(format string, args ...any) { fmt.Fprintf(p.out, format+"\n", args...) }

func (p *Printer) clear() {
	if p.live {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func many(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return number(n) + " " + more
}

func number(n int) string {
	if n == 0 {
		return "no"
	}
	return strconv.Itoa(n)
}
