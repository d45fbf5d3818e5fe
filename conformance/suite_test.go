package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// trial is a suite of checks that end in every way there is. Its ids are checks of the real ones, for their promises.
func trial() suite[int] {
	here := func(f int) bool { return f > 0 }
	return suite[int]{
		subject: "trial",
		close:   func(int) error { return nil },
		groups: []group[int]{
			{checks: []check[int]{
				{"atomic-commit", "a rule", func(context.Context, int) error { return nil }},
				{"nil-is-stored", "what is stored is stored", func(context.Context, int) error { return errors.New("it is not") }},
				{"fetch-blocked", "a panic is a failure", func(context.Context, int) error { panic("at the disco") }},
				{"bury-moves", "a check comes back", func(context.Context, int) error { time.Sleep(time.Hour); return nil }},
				{"enqueue-order", "in time", func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }},
			}},
			{needs: "another database", has: func(int) bool { return false }, checks: []check[int]{
				{"session-holds-nothing", "nothing is held", func(context.Context, int) error { return nil }},
				{"atomic-rollback", "a rule", func(context.Context, int) error { return nil }},
			}},
			{needs: "a number", has: here, checks: []check[int]{{"fail-once", "once", func(context.Context, int) error { return nil }}}},
		},
	}
}

func TestReportSaysWhatCameOfEachCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report, err := trial().verify(t.Context(), func(context.Context) (int, error) { return 1, nil })
		want := []struct {
			id       string
			status   Status
			timedOut bool
			says     string
		}{
			{"atomic-commit", Passed, false, ""},
			{"nil-is-stored", Failed, false, "it is not"},
			{"fetch-blocked", Failed, false, "panicked: at the disco"},
			{"bury-moves", Failed, true, "it hangs"},
			{"enqueue-order", Failed, true, "deadline exceeded"},
			{"session-holds-nothing", NotExercised, false, ""},
			{"atomic-rollback", NotExercised, false, ""},
			{"fail-once", Passed, false, ""},
		}
		for i, w := range want {
			got := report.Checks[i]
			if got.ID != w.id || got.Status != w.status || got.TimedOut != w.timedOut || !strings.Contains(got.Error, w.says) {
				t.Errorf("check %d: got %+v, want %+v", i, got, w)
			}
		}
		if err == nil || !strings.Contains(err.Error(), "nil-is-stored: the rule: what is stored is stored\nis broken: it is not") {
			t.Errorf("Err: got %v, want the rule and what breaks it", err)
		}
		for i, status := range []Status{Proven, Failed, Failed, Failed, NotExercised, Failed, Proven, NotExercised} {
			if got := report.Promises[i]; got.Status != status {
				t.Errorf("got %s, want %s", got, status)
			}
		}
		if got := report.Promises[7].Needs; !slices.Equal(got, []string{"another database"}) {
			t.Errorf("promise 8 would need %q", got)
		}
		// Neither hide what was not exercised: it stands beside what proves the rest.
		if got := report.Promises[0].String(); got != "1. Atomic: proven; passed: atomic-commit; not exercised: atomic-rollback; would need: another database" {
			t.Errorf("promise 1: %s", got)
		}
		time.Sleep(2 * time.Hour) // lets the check that hangs go
	})
}

func TestWithoutAWayToBreakAndHealAnOutageIsNotExercised(t *testing.T) {
	report, err := VerifyDialect(t.Context(), func(context.Context) (DialectFixture, error) {
		f := MemoryFixture(NewMemory(MemoryConfig{}))
		f.Outage = nil
		return f, nil
	})
	if err != nil {
		t.Error(err)
	}
	p := report.Promises[promiseOutage-1]
	if p.Status != NotExercised || !slices.Equal(p.Needs, []string{"Outage"}) {
		t.Errorf("got %s, want not exercised, for lack of an Outage", p)
	}
}

// What does the harm that a promise is about cannot be missing from what proves it, unless there is nothing to harm.
func TestAPromiseIsNotProvenWithoutItsHarm(t *testing.T) {
	killed := func(p *pair) { // a file, of which the processes can be killed that have it open
		p.NoServer, p.ConcurrentWriters = true, false
	}
	file := func(p *pair) {
		killed(p)
		p.Cut, p.LoseAnswers, p.Restart = nil, nil, nil
	}
	for name, c := range map[string]struct {
		harm   func(p *pair)
		misses []int // promises
	}{
		"everything":                  {func(*pair) {}, nil},
		"a file":                      {killed, nil},
		"a file that nobody breaks":   {file, []int{promiseAtomic, promiseCrash}},
		"a file without LoseAnswers":  {func(p *pair) { killed(p); p.LoseAnswers = nil }, []int{promiseAtomic}},
		"a file without Restart":      {func(p *pair) { killed(p); p.Restart = nil }, []int{promiseCrash}},
		"no server, and all the same": {func(p *pair) { p.NoServer = true }, nil},
		"no ConcurrentWriters":        {func(p *pair) { p.ConcurrentWriters = false }, nil},
		"no Cut":                      {func(p *pair) { p.Cut = nil }, []int{promiseAtomic, promiseCrash}},
		"no LoseAnswers":              {func(p *pair) { p.LoseAnswers = nil }, []int{promiseAtomic}},
		"no Restart":                  {func(p *pair) { p.Restart = nil }, []int{promiseCrash}},
		"no Outage":                   {func(p *pair) { p.Outage = nil }, []int{promiseOutage}},
		"the broker's Restart":        {func(p *pair) { p.broker.Restart = nil }, []int{promiseCrash}},
		"the broker's Outage":         {func(p *pair) { p.broker.Outage = nil }, []int{promiseDelivered, promiseOutage}},
		"no Poison":                   {func(p *pair) { p.broker.Poison = nil }, []int{promisePoison, promiseKept}},
		"a file, and no Poison":       {func(p *pair) { killed(p); p.broker.Poison = nil }, []int{promisePoison, promiseKept}},
		"a file that never is away":   {func(p *pair) { killed(p); p.Outage = nil }, []int{promiseOutage}},
	} {
		r := &Recorder{}
		p := pair{MemoryFixture(NewMemory(MemoryConfig{})), RecorderFixture(r, r)}
		c.harm(&p)
		everyCheckPasses := pairSuite
		everyCheckPasses.groups = nil
		for _, g := range pairGroups {
			g.checks = slices.Clone(g.checks)
			for i := range g.checks {
				g.checks[i].run = func(context.Context, pair) error { return nil }
			}
			everyCheckPasses.groups = append(everyCheckPasses.groups, g)
		}
		report, err := everyCheckPasses.verify(t.Context(), func(context.Context) (pair, error) { return p, nil })
		if err != nil {
			t.Error(err)
		}
		for _, got := range report.Promises {
			want := Proven
			if slices.Contains(c.misses, got.Number) {
				want = NotExercised
			}
			if got.Status != want {
				t.Errorf("%s: want %s of %s", name, want, got)
			}
		}
	}
}

// A failed check that is of no promise takes the proof from all of them, and leaves them no failure of their own.
func TestABrokenRuleLeavesNoPromiseProven(t *testing.T) {
	const rule = "fail-both"
	if _, ofPromise := promisesOf[rule]; ofPromise {
		t.Fatalf("%s is of a promise", rule)
	}
	for name, c := range map[string]struct {
		fails   func(context.Context, int) error
		status  Status // of promise 1, whose check passes
		verdict string
	}{
		"kept":   {func(context.Context, int) error { return nil }, Proven, "proven"},
		"broken": {func(context.Context, int) error { return errors.New("it is not") }, NotProven, "not proven: check " + rule + " failed"},
	} {
		s := trial()
		s.groups = []group[int]{{checks: []check[int]{
			{"atomic-commit", "a rule", func(context.Context, int) error { return nil }},
			{"nil-is-stored", "a rule", func(context.Context, int) error { return errors.New("it is not") }},
			{rule, "a rule", c.fails},
		}}}
		report, err := s.verify(t.Context(), func(context.Context) (int, error) { return 1, nil })
		if err == nil {
			t.Error("a check failed, and there is no error")
		}
		if got := report.Promises[0]; got.Status != c.status || got.Verdict() != c.verdict || !strings.Contains(report.String(), "1. Atomic: "+c.verdict+"; passed: atomic-commit") {
			t.Errorf("%s: got %+v in\n%s\nwant %s", name, got, report, c.verdict)
		}
		if got := report.Promises[1]; got.Status != Failed || len(got.Broken) > 0 {
			t.Errorf("%s: got %s, want a failure of its own", name, got)
		}
		if got := report.Promises[2]; got.Status != NotExercised || len(got.Broken) > 0 {
			t.Errorf("%s: got %s, want what nothing was found out about", name, got)
		}
		text, err := json.Marshal(report.Promises[0])
		if err != nil || strings.Contains(string(text), `"status":"not proven"`) != (c.status == NotProven) || strings.Contains(string(text), rule) != (c.status == NotProven) {
			t.Errorf("%s: got %s and %v", name, text, err)
		}
	}
}

func TestReportAsJSON(t *testing.T) {
	report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
		r := &Recorder{}
		return RecorderFixture(r, r), nil
	})
	if err != nil {
		t.Error(err)
	}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	if again.String() != report.String() || len(again.Checks) == 0 {
		t.Errorf("from JSON: got\n%s\nwant\n%s", again, report)
	}
}

func TestAFixtureThatCannotBeOpenedIsAFailure(t *testing.T) {
	refused := errors.New("no such host")
	report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) { return BrokerFixture{}, refused })
	if err == nil || !strings.Contains(err.Error(), "no such host") || report.Count(Passed) != 0 || report.Count(Failed) != len(report.Checks) {
		t.Errorf("got %v and\n%s, want that every check failed", err, report)
	}
}

func TestEveryPromiseOfACheckIsThere(t *testing.T) {
	known := map[string]bool{}
	for _, r := range []*Report{dialectSuite.blank(), brokerSuite.blank(), pairSuite.blank()} {
		for _, c := range r.Checks {
			if known[c.ID] {
				t.Errorf("two checks have the id %s", c.ID)
			}
			known[c.ID] = true
		}
	}
	for id := range promisesOf {
		if !known[id] {
			t.Errorf("there is no check %s, which promises are said to rest on", id)
		}
	}
	for promise, ids := range indispensable {
		for _, id := range ids {
			if !known[id] || !slices.Contains(promisesOf[id], promise) {
				t.Errorf("there is no check %s of promise %d, to which it is indispensable", id, promise)
			}
		}
	}
}

// Each row of the README's table names the checks of that row's promise, all of them and no other.
func TestTheREADMENamesTheChecks(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(readme), "| promise | what proves it |\n|---|---|\n")
	if !found {
		t.Fatal("the README has no table of promises")
	}
	rows := strings.Split(rest, "\n")
	for i, p := range Promises() {
		if !strings.HasPrefix(rows[i], "| **"+p.Name) {
			t.Errorf("row %d is %.40q, want promise %d, %s", i+1, rows[i], p.Number, p.Name)
			continue
		}
		var named, want []string
		for _, id := range regexp.MustCompile("`([a-z]+(?:-[a-z]+)*)`").FindAllStringSubmatch(rows[i], -1) {
			if id[1] != "demo" { // the command
				named = append(named, id[1])
			}
		}
		for id, promises := range promisesOf {
			if slices.Contains(promises, p.Number) {
				want = append(want, id)
			}
		}
		slices.Sort(named)
		slices.Sort(want)
		for _, id := range missingFrom(named, want) {
			t.Errorf("the README does not name %s, which is of promise %d", id, p.Number)
		}
		for _, id := range missingFrom(want, named) {
			t.Errorf("the README says that %s proves promise %d, and it does not", id, p.Number)
		}
		if len(named) != len(slices.Compact(named)) {
			t.Errorf("the README names a check of promise %d twice", p.Number)
		}
	}
}

// missingFrom returns what there is of want that is not in got.
func missingFrom(got, want []string) (missing []string) {
	for _, id := range want {
		if !slices.Contains(got, id) {
			missing = append(missing, id)
		}
	}
	return missing
}

// The package's documentation lists the checks that are of no promise, all of them and no other.
func TestTheDocumentationNamesTheRules(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "// # Rules\n")
	if !found {
		t.Fatal("the documentation has no list of rules")
	}
	rest, _, _ = strings.Cut(rest, "// # ")
	for _, r := range []*Report{dialectSuite.blank(), brokerSuite.blank(), pairSuite.blank(), inboxSuite.blank()} {
		var named, want []string
		for _, line := range strings.Split(rest, "\n") {
			if fields := strings.Fields(strings.TrimPrefix(line, "//\t")); strings.HasPrefix(line, "//\t"+r.Subject+" ") {
				named = append(named, fields[1:]...)
			}
		}
		for _, c := range r.Checks {
			if len(c.Promises) == 0 {
				want = append(want, c.ID)
			}
		}
		for _, id := range missingFrom(named, want) {
			t.Errorf("the documentation does not name %s among the rules of a %s", id, r.Subject)
		}
		for _, id := range missingFrom(want, named) {
			t.Errorf("the documentation names %s among the rules of a %s, and it is none", id, r.Subject)
		}
	}
}

// What a fixture has adds checks, whatever else it has. A suite that leaves out a check because the adapter claims something
// tests the claim by believing it.
func TestWhatAFixtureHasTakesNoCheckAway(t *testing.T) {
	m := NewMemory(MemoryConfig{Archive: true})
	r := &Recorder{}
	able := &brokenBroker{Broker: r.Client(ClientConfig{KeyOrdered: true, Terms: true})} // with a hash of keys, and whole
	full := pair{MemoryFixture(m), RecorderFixture(r, able)}
	full.broker.Elsewhere = able
	bare := pair{DialectFixture{Dialect: plainDialect{m}}, BrokerFixture{Broker: plainBroker{r}}}
	if exercised(full) != total() {
		t.Errorf("a fixture that can do everything exercises %d checks of %d", exercised(full), total())
	}
	least := exercised(bare)
	for name, add := range map[string]func(p *pair){
		"ConcurrentWriters": func(p *pair) { p.ConcurrentWriters = true },
		"Archiving":         func(p *pair) { p.Archiving = m },
		"abilities":         func(p *pair) { p.Dialect = m },
		"Outage":            func(p *pair) { p.Outage, p.broker.Outage = full.Outage, full.broker.Outage },
		"Cut":               func(p *pair) { p.Cut, p.broker.Cut = full.Cut, full.broker.Cut },
		"LoseAnswers":       func(p *pair) { p.LoseAnswers = full.LoseAnswers },
		"Restart":           func(p *pair) { p.Restart, p.broker.Restart = full.Restart, full.broker.Restart },
		"Freeze":            func(p *pair) { p.broker.Freeze = full.broker.Freeze },
		"Delay":             func(p *pair) { p.broker.Delay = full.broker.Delay },
		"Elsewhere":         func(p *pair) { p.broker.Elsewhere = full.broker.Elsewhere },
		"OtherTopic":        func(p *pair) { p.broker.OtherTopic, p.broker.ReadOther = full.broker.OtherTopic, full.broker.ReadOther },
		"Poison":            func(p *pair) { p.broker.Poison = full.broker.Poison },
		"KeyOrdered":        func(p *pair) { p.broker.Broker = r.Client(ClientConfig{KeyOrdered: true}) },
	} {
		with := bare
		add(&with)
		if got := exercised(with); got < least {
			t.Errorf("with %s %d checks are exercised, and %d without", name, got, least)
		}
		if got := exercised(with); got == least && name != "abilities" && name != "Archiving" {
			t.Errorf("%s adds no check", name)
		}
	}
}

type plainDialect struct{ core.Dialect }

type plainBroker struct{ core.Broker }

func total() int {
	return len(dialectSuite.blank().Checks) + len(brokerSuite.blank().Checks) + len(pairSuite.blank().Checks) - len(enqueueSQLChecks)
}

// exercised counts the checks that p's fixtures exercise.
func exercised(p pair) int {
	n := 0
	dialectSuite.each(func(_ int, g group[DialectFixture], _ check[DialectFixture]) {
		n += one(g.needs == "" || g.has(p.DialectFixture))
	})
	brokerSuite.each(func(_ int, g group[BrokerFixture], _ check[BrokerFixture]) {
		n += one(g.needs == "" || g.has(p.broker))
	})
	pairSuite.each(func(_ int, g group[pair], _ check[pair]) { n += one(g.needs == "" || g.has(p)) })
	return n
}

func one(yes bool) int {
	if yes {
		return 1
	}
	return 0
}
