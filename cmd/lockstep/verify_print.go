package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
)

// print writes a table of the promises for each report, and what failed.
func (v *verified) print(p *printer) {
	p.line("outbox %s in %s", v.Outbox, clean(v.Database))
	for _, r := range v.Reports {
		p.line("")
		p.line("%s: %d checks passed, %d failed, %d not exercised, in %v", clean(r.title()),
			r.Report.Count(conformance.Passed), r.Report.Count(conformance.Failed), r.Report.Count(conformance.NotExercised), r.Took.Round(time.Second))
		p.row("PROMISE", "STATUS", "PASSED", "FAILED", "NOT EXERCISED")
		for _, promise := range r.Report.Promises {
			p.row(fmt.Sprintf("%d. %s", promise.Number, promise.Name), promise.Verdict(), len(promise.Passed), len(promise.Failed), missing(promise))
		}
		for _, c := range r.Report.Checks {
			if c.Status == conformance.Failed {
				p.line("  FAILED  %s: %s", c.ID, clean(c.Rule))
				p.line("          %s", clean(c.Error))
				if c.TimedOut {
					p.line("          (its time was over: a slow machine or network may be all that is wrong)")
				}
			}
		}
	}
	for _, left := range v.LeftBehind {
		p.line("LEFT BEHIND  %s", clean(left))
	}
}

// title names what a suite tested.
func (r verifyReport) title() string {
	switch r.Report.Subject {
	case "dialect":
		return "database"
	case "pair":
		return "database to " + r.Broker
	}
	return r.Report.Subject + " " + r.Broker
}

// missing says how many checks were not exercised, and what they need. A report about one side has no check of some promises.
func missing(p conformance.PromiseResult) string {
	if len(p.NotExercised) == 0 && len(p.Passed)+len(p.Failed) == 0 {
		return "no check on this side"
	}
	if len(p.NotExercised) == 0 {
		return "0"
	}
	needs := make([]string, len(p.Needs))
	for i, need := range p.Needs {
		needs[i] = inWords.Replace(need)
	}
	return fmt.Sprintf("%d: would need %s", len(p.NotExercised), strings.Join(needs, ", "))
}

// inWords says what a fixture lacks to who never saw one.
var inWords = strings.NewReplacer(
	"the dialect's or the broker's Cut", "connections that can be cut",
	"the dialect's Restart", "a database that may be killed", "the broker's Restart", "a broker that may be killed",
	"the dialect's ", "the database's ",
	"ConcurrentWriters", "a database with several writers", "a KeyLocker", "key locks", "a KeyOrdered broker", "a broker that orders keys",
	"LoseAnswers", "answers that can be lost", "Outage", "outage", "Freeze", "silence", "Delay", "delays",
	"Poison", "message that is refused for good", "Cut", "connections that can be cut",
)
