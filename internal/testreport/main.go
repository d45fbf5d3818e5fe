// Command testreport reads `go test -json` and says what a reader of a test run needs: one line per package, the output
// of what failed, and every skipped test with its reason. Plain `go test ./...` drops the output of a package that
// passed, so it cannot say what it skipped.
//
// It ends with 1 when anything failed or never ended, when nothing ran, and, where LOCKSTEP_TEST_REQUIRE is "all", when
// anything was skipped. A check of the conformance suite for an ability that an adapter does not have is counted apart, as
// not exercised: no server and no setting could make it run.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// notExercisedMark is what package conformance says of a check for an ability that an adapter does not have.
const notExercisedMark = "not exercised: needs "

const (
	// suiteMark begins what package conformance says of a whole suite: how many checks ran, and which did not. It is shown
	// for tests that passed as well.
	suiteMark = "conformance of "
	// resultMark begins what a test says of what it proved, in numbers: as many kills, so many losses. It is shown for
	// tests that passed as well.
	resultMark = "result: "
)

func main() {
	if !report(os.Stdin, os.Stdout, os.Getenv("LOCKSTEP_TEST_REQUIRE") == "all") {
		os.Exit(1)
	}
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build-output
	Elapsed                       float64
}

// run is what is known of a test, or of a package where test is empty.
type run struct {
	pkg, test string
	output    []string
	action    string
	elapsed   time.Duration
}

func (r run) String() string { return strings.TrimSuffix(r.pkg+"."+r.test, ".") }

type reporter struct {
	out  io.Writer
	runs map[string]*run
}

// report copies to out what is worth reading and tells whether the run counts as passed.
func report(in io.Reader, out io.Writer, forbidSkips bool) bool {
	r := reporter{out: out, runs: map[string]*run{}}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			r.line(line)
		}
		if err != nil {
			return r.summary(forbidSkips)
		}
	}
}

func (r *reporter) line(line []byte) {
	var e event
	if json.Unmarshal(line, &e) != nil || e.Action == "" {
		_, _ = r.out.Write(line) // the go command's own words
		return
	}
	if e.Action == "build-output" {
		fmt.Fprint(r.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	name := e.Package + "\x00" + e.Test
	if r.runs[name] == nil {
		r.runs[name] = &run{pkg: e.Package, test: e.Test}
	}
	t := r.runs[name]
	switch e.Action {
	case "output":
		if !strings.HasPrefix(e.Output, "=== ") { // RUN, PAUSE, CONT and NAME, which the summary tells better
			t.output = append(t.output, e.Output)
		}
	case "pass", "fail", "skip":
		t.action, t.elapsed = e.Action, time.Duration(e.Elapsed*float64(time.Second))
		if e.Test == "" {
			r.packageEnded(t)
		} else if e.Action == "pass" {
			r.results(t)
			t.output = nil
		}
	}
}

// results shows the lines of a test's output that bear a mark.
func (r *reporter) results(t *run) {
	for _, line := range t.output {
		if _, about, ok := strings.Cut(line, suiteMark); ok {
			fmt.Fprintf(r.out, "      %s%s\n", suiteMark, strings.TrimSpace(about))
		} else if _, result, ok := strings.Cut(line, resultMark); ok {
			fmt.Fprintf(r.out, "      %s: %s\n", t.test, strings.TrimSpace(result))
		}
	}
}

func (r *reporter) packageEnded(p *run) {
	switch p.action {
	case "pass":
		fmt.Fprintf(r.out, "ok    %s  %.1fs\n", p.pkg, p.elapsed.Seconds())
	case "fail":
		// A test that neither passed nor failed is the one that a panic or the time-out ended.
		for _, t := range r.sorted(func(t *run) bool { return t.pkg == p.pkg && t.test != "" && t.action != "pass" && t.action != "skip" }) {
			fmt.Fprint(r.out, strings.Join(t.output, ""))
		}
		fmt.Fprint(r.out, strings.Join(p.output, ""))
	}
}

func (r *reporter) summary(forbidSkips bool) bool {
	ofTests := func(action string) []*run {
		return r.sorted(func(t *run) bool { return t.test != "" && t.action == action })
	}
	passed, skipped, notExercised := ofTests("pass"), ofTests("skip"), []*run(nil)
	skipped = slices.DeleteFunc(skipped, func(t *run) bool {
		inapplicable := strings.Contains(reason(t.output), notExercisedMark)
		if inapplicable {
			notExercised = append(notExercised, t)
		}
		return inapplicable
	})
	failed := r.sorted(func(t *run) bool { return t.action == "fail" || t.action == "" })

	fmt.Fprintf(r.out, "\npassed: %d\nskipped: %d\n", len(passed), len(skipped))
	for _, t := range skipped {
		fmt.Fprintf(r.out, "  %s: %s\n", t, reason(t.output))
	}
	if len(notExercised) > 0 {
		fmt.Fprintf(r.out, "not exercised: %d\n", len(notExercised))
		for _, t := range notExercised {
			fmt.Fprintf(r.out, "  %s: %s\n", t, reason(t.output))
		}
	}
	fmt.Fprintf(r.out, "failed: %d\n", len(failed))
	for _, t := range failed {
		fmt.Fprintf(r.out, "  %s\n", t)
	}
	switch {
	case len(failed) > 0:
		return false
	case len(passed)+len(skipped) == 0:
		fmt.Fprintln(r.out, "no test ran")
		return false
	case forbidSkips && len(skipped) > 0:
		fmt.Fprintln(r.out, "LOCKSTEP_TEST_REQUIRE=all forbids skips")
		return false
	}
	return true
}

func (r *reporter) sorted(keep func(*run) bool) []*run {
	var kept []*run
	for _, name := range slices.Sorted(maps.Keys(r.runs)) {
		if keep(r.runs[name]) {
			kept = append(kept, r.runs[name])
		}
	}
	return kept
}

// reason is what a test said, without the line that says how it ended.
func reason(output []string) string {
	var said []string
	for _, line := range output {
		text := strings.TrimSpace(line)
		if text != "" && !strings.HasPrefix(text, "--- ") {
			said = append(said, text)
		}
	}
	if len(said) == 0 {
		return "no reason given"
	}
	return strings.Join(said, " ")
}
