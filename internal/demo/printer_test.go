package demo_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/internal/demo"
)

// printed is what a person sees of a run.
func printed(live bool, lockstep demo.Counts) string {
	var out bytes.Buffer
	p := demo.NewPrinter(&out, live)
	config := demo.Config{Orders: 100_000, Seed: 1}
	p.Start(config)
	report := demo.Report{Seed: config.Seed, Orders: config.Orders, Faults: config.Faults()}
	for _, s := range []demo.Result{
		{Name: "database_first", Title: "database, then broker", Counts: demo.Counts{OrdersWithoutEvent: 18_000}},
		{Name: "broker_first", Title: "broker, then database", Counts: demo.Counts{EventsWithoutOrder: 12_000, EventsDeliveredTwice: 14_000, EffectsAppliedTwice: 14_000}},
		{Name: "lockstep", Title: "Lockstep", Counts: lockstep},
	} {
		s.Kills = demo.Kills{Service: 10_000, Relay: 10_000}
		p.Progress(demo.Progress{Title: s.Title, Done: 1, Total: 2})
		p.Progress(demo.Progress{Title: s.Title, Done: 2, Total: 2, Result: &s})
		report.Services = append(report.Services, s)
	}
	p.Finish(report)
	return out.String()
}

func TestPlainOutputHasNoControlCharacters(t *testing.T) {
	t.Parallel()
	out := printed(false, demo.Counts{EventsDeliveredTwice: 15_000})
	for i, line := range strings.Split(out, "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return unicode.IsControl(r) || r > unicode.MaxASCII }) {
			t.Errorf("line %d has more than plain text: %q", i+1, line)
		}
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("line %d is %d columns wide, want at most 80: %q", i+1, n, line)
		}
	}
	for _, want := range []string{"18000", "every order has its event", "--seed 1 --orders 100000"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing from:\n%s", want, out)
		}
	}
}

func TestTerminalOutputMovesAndHasColours(t *testing.T) {
	t.Parallel()
	out := printed(true, demo.Counts{})
	for _, want := range []string{"\x1b[31m18000\x1b[0m", "\x1b[K", "│"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing from:\n%s", want, out)
		}
	}
}

func TestNothingIsPrintedAfterAWriteError(t *testing.T) {
	t.Parallel()
	out := &fullWriter{room: 1}
	p := demo.NewPrinter(out, true)
	p.Start(demo.Config{Orders: 1})
	p.Abort()
	p.Finish(demo.Report{})
	if !errors.Is(p.Err(), errFull) || out.calls != 2 {
		t.Errorf("got %v after %d writes, want the writer's error after 2", p.Err(), out.calls)
	}
}

var errFull = errors.New("full")

// fullWriter has room for so many writes.
type fullWriter struct{ room, calls int }

func (w *fullWriter) Write(b []byte) (int, error) {
	w.calls++
	if w.calls > w.room {
		return 0, errFull
	}
	return len(b), nil
}

func TestNothingWrongIsNotCounted(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := demo.NewPrinter(&out, false)
	p.Finish(demo.Report{Services: []demo.Result{
		{Name: "database_first"}, {Name: "broker_first"}, {Name: "inside_tx"}, {Name: "lockstep"},
	}})
	for _, wrong := range []string{"0 orders nobody", "0 orders shipped", "0 times"} {
		if strings.Contains(out.String(), wrong) {
			t.Errorf("%q in:\n%s", wrong, &out)
		}
	}
}

func TestFailureIsNotPrintedAsSuccess(t *testing.T) {
	t.Parallel()
	out := printed(false, demo.Counts{OrdersWithoutEvent: 1})
	if strings.Contains(out, "every order has its event") || !strings.Contains(out, "this is a bug") {
		t.Errorf("a wrong Lockstep row is printed as a good one:\n%s", out)
	}
}
