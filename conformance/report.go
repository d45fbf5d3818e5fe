package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// reportMark begins what a test says of a whole suite. The project's test report shows it for tests that passed, too.
const reportMark = "conformance of "

// Status is what came of a check, or of a promise.
type Status string

// The statuses. A check passes, and a promise is proven by its checks. It is not proven, though none of them failed, where
// one failed that is of no promise: it enforces a rule between adapter and engine, on which all of them rest.
const (
	Passed       Status = "passed"
	Proven       Status = "proven"
	Failed       Status = "failed"
	NotProven    Status = "not proven"
	NotExercised Status = "not exercised"
)

// Report is what a suite found. It has every check of the suite, run or not, in a fixed order.
type Report struct {
	// Subject is what was tested: dialect, broker or pair.
	Subject  string          `json:"subject"`
	Checks   []CheckResult   `json:"checks"`
	Promises []PromiseResult `json:"promises"`
}

// CheckResult is what came of one check.
type CheckResult struct {
	// ID names the check for good.
	ID string `json:"id"`
	// Rule is the sentence that it enforces.
	Rule string `json:"rule"`
	// Promises are the numbers of the promises that it is a part of; none where the rule is between adapter and engine.
	Promises []int `json:"promises,omitempty"`
	// Status is Passed, Failed or NotExercised.
	Status Status `json:"status"`
	// Needs is what the fixture lacks, where the check was not exercised.
	Needs string `json:"needs,omitempty"`
	// Pointless says that the check was not exercised because there is nothing that it could be done to, as the fixture
	// says (DialectFixture.NoServer). No promise misses it.
	Pointless bool `json:"pointless,omitempty"`
	// Error is what was found wrong.
	Error string `json:"error,omitempty"`
	// TimedOut says that the check failed because its time was over, which tells less than what it looks for.
	TimedOut bool `json:"timed_out,omitempty"`
	// Took is in nanoseconds.
	Took time.Duration `json:"took_ns"`
}

// PromiseResult is what the checks say of one promise.
type PromiseResult struct {
	Promise
	// Status is Proven where checks of the promise passed, none failed, and none is missing that it cannot do without; with
	// one missing it is NotExercised, and with a broken rule NotProven, and Passed is what was found to hold of it all the
	// same. In a report about a dialect or a broker that is this adapter's part of the promise.
	Status Status `json:"status"`
	// Passed, Failed and NotExercised are the ids of its checks.
	Passed       []string `json:"passed,omitempty"`
	Failed       []string `json:"failed,omitempty"`
	NotExercised []string `json:"not_exercised,omitempty"`
	// Needs is what was missing for the checks that were not exercised, each once.
	Needs []string `json:"needs,omitempty"`
	// Broken is the ids of the checks without a promise that failed, where the promise would be proven otherwise.
	Broken []string `json:"broken,omitempty"`
}

// Count returns how many checks have the status.
func (r Report) Count(status Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == status {
			n++
		}
	}
	return n
}

// Err returns the failures of all checks, each with its rule; nil where none failed.
func (r Report) Err() error {
	var errs []error
	for _, c := range r.Checks {
		if c.Status == Failed {
			errs = append(errs, errors.New(c.ID+": "+c.complaint()))
		}
	}
	return errors.Join(errs...)
}

// complaint tells a failure with the sentence that it breaks.
func (c CheckResult) complaint() string {
	text := fmt.Sprintf("the rule: %s\nis broken: %s", c.Rule, c.Error)
	if c.TimedOut {
		text += "\n(found by nothing better than the end of the check's time)"
	}
	return text
}

// String is the report as text: a line of numbers, a line for each promise, and what failed.
func (r Report) String() string {
	var b strings.Builder
	run := r.Count(Passed) + r.Count(Failed)
	fmt.Fprintf(&b, "%s: %d checks run, %d passed, %d failed, %d not exercised\n",
		r.Subject, run, r.Count(Passed), r.Count(Failed), r.Count(NotExercised))
	for _, p := range r.Promises {
		fmt.Fprintf(&b, "  %s\n", p)
	}
	for _, c := range r.Checks {
		if c.Status == Failed {
			fmt.Fprintf(&b, "  %s: %s\n", c.ID, strings.ReplaceAll(c.complaint(), "\n", "\n    "))
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// String is a line about the promise.
func (p PromiseResult) String() string {
	text := fmt.Sprintf("%d. %s: %s", p.Number, p.Name, p.Verdict())
	for _, part := range []struct {
		what string
		ids  []string
	}{{"failed", p.Failed}, {"passed", p.Passed}, {"not exercised", p.NotExercised}, {"would need", p.Needs}} {
		if len(part.ids) > 0 {
			text += "; " + part.what + ": " + strings.Join(part.ids, ", ")
		}
	}
	return text
}

// Verdict is the status, and which checks are to blame where none of the promise's own is.
func (p PromiseResult) Verdict() string {
	switch len(p.Broken) {
	case 0:
		return string(p.Status)
	case 1:
		return string(p.Status) + ": check " + p.Broken[0] + " failed"
	}
	return string(p.Status) + ": checks " + strings.Join(p.Broken, ", ") + " failed"
}

// conclude says for each promise what its checks came to.
func (r *Report) conclude() {
	r.Promises = nil
	if !slices.ContainsFunc(r.Checks, func(c CheckResult) bool { return len(c.Promises) > 0 }) {
		return // the inbox's: the eight are about what reaches the broker
	}
	var broken []string
	for _, c := range r.Checks {
		if c.Status == Failed && len(c.Promises) == 0 {
			broken = append(broken, c.ID)
		}
	}
	for _, promise := range Promises() {
		p := PromiseResult{Promise: promise, Status: NotExercised}
		lacking := false
		for _, c := range r.Checks {
			if !slices.Contains(c.Promises, promise.Number) {
				continue
			}
			p.add(c)
			lacking = lacking || c.Status == NotExercised && !c.Pointless && slices.Contains(indispensable[promise.Number], c.ID)
		}
		switch {
		case len(p.Failed) > 0:
			p.Status = Failed
		case len(p.Passed) > 0 && !lacking && len(broken) > 0:
			p.Status, p.Broken = NotProven, broken
		case len(p.Passed) > 0 && !lacking:
			p.Status = Proven
		}
		if len(p.Passed)+len(p.Failed)+len(p.NotExercised) == 0 {
			p.Needs = []string{"a suite that has checks for it: a " + r.Subject + "'s has none"}
		}
		r.Promises = append(r.Promises, p)
	}
}

func (p *PromiseResult) add(c CheckResult) {
	switch c.Status {
	case Passed:
		p.Passed = append(p.Passed, c.ID)
	case Failed:
		p.Failed = append(p.Failed, c.ID)
	case NotExercised:
		p.NotExercised = append(p.NotExercised, c.ID)
		needs := c.Needs
		if c.Pointless {
			needs += " (there is nothing of the kind)"
		}
		if !slices.Contains(p.Needs, needs) {
			p.Needs = append(p.Needs, needs)
		}
	}
}
