package main

import (
	"strings"
	"testing"
)

// The streams are cut from real ones.
const (
	passing = `{"Action":"start","Package":"ex/a"}
{"Action":"run","Package":"ex/a","Test":"TestGood"}
{"Action":"output","Package":"ex/a","Test":"TestGood","Output":"    a_test.go:5: chatter\n"}
{"Action":"pass","Package":"ex/a","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"ex/a","Output":"ok  \tex/a\t0.102s\n"}
{"Action":"pass","Package":"ex/a","Elapsed":0.102}
`
	skipping = `{"Action":"run","Package":"ex/b","Test":"TestNeedy"}
{"Action":"output","Package":"ex/b","Test":"TestNeedy","Output":"=== RUN   TestNeedy\n"}
{"Action":"output","Package":"ex/b","Test":"TestNeedy","Output":"    b_test.go:7: POSTGRES is not set: start it\n"}
{"Action":"output","Package":"ex/b","Test":"TestNeedy","Output":"--- SKIP: TestNeedy (0.00s)\n"}
{"Action":"skip","Package":"ex/b","Test":"TestNeedy","Elapsed":0}
{"Action":"pass","Package":"ex/b","Elapsed":0.01}
`
	inapplicable = `{"Action":"output","Package":"ex/i","Test":"TestSuite/lock-keys","Output":"    check.go:33: not exercised: needs a KeyLocker\n"}
{"Action":"skip","Package":"ex/i","Test":"TestSuite/lock-keys","Elapsed":0}
{"Action":"pass","Package":"ex/i","Test":"TestSuite","Elapsed":0}
{"Action":"pass","Package":"ex/i","Elapsed":0.01}
`
	suite = `{"Action":"output","Package":"ex/i","Test":"TestSuite","Output":"    suite.go:54: conformance of TestSuite: dialect: 3 checks run, 3 passed, 0 failed, 1 not exercised\n"}
{"Action":"output","Package":"ex/i","Test":"TestSuite","Output":"          1. Atomic: proven; passed: atomic-commit\n"}
{"Action":"pass","Package":"ex/i","Test":"TestSuite","Elapsed":0}
{"Action":"pass","Package":"ex/i","Elapsed":0.01}
`
	result = `{"Action":"output","Package":"ex/j","Test":"TestKills","Output":"    j_test.go:5: chatter\n"}
{"Action":"output","Package":"ex/j","Test":"TestKills","Output":"    j_test.go:7: result: 100 kills, 0 lost\n"}
{"Action":"pass","Package":"ex/j","Test":"TestKills","Elapsed":0}
{"Action":"pass","Package":"ex/j","Elapsed":0.01}
`
	failing = `{"Action":"run","Package":"ex/c","Test":"TestBad"}
{"Action":"output","Package":"ex/c","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"ex/c","Test":"TestBad","Output":"    c_test.go:9: got 1, want 2\n"}
{"Action":"fail","Package":"ex/c","Test":"TestBad","Elapsed":0}
{"Action":"fail","Package":"ex/c","Elapsed":0.01}
`
	// A package that failed although each of its tests passed: a leak found by TestMain, say.
	leaking = `{"Action":"pass","Package":"ex/d","Test":"TestGood","Elapsed":0}
{"Action":"output","Package":"ex/d","Output":"goleak: found unexpected goroutines\n"}
{"Action":"fail","Package":"ex/d","Elapsed":0.4}
`
	// The time-out ended the package inside a test.
	timedOut = `{"Action":"run","Package":"ex/e","Test":"TestSlow"}
{"Action":"output","Package":"ex/e","Test":"TestSlow","Output":"panic: test timed out after 1s\n"}
{"Action":"fail","Package":"ex/e","Elapsed":1}
`
	// go test itself was killed.
	cut = `{"Action":"start","Package":"ex/f"}
`
	unbuildable = `{"ImportPath":"ex/g","Action":"build-output","Output":"g.go:3:1: syntax error\n"}
{"ImportPath":"ex/g","Action":"build-fail"}
{"Action":"fail","Package":"ex/g","Elapsed":0,"FailedBuild":"ex/g"}
`
	testless = `{"Action":"output","Package":"ex/h","Output":"?   \tex/h\t[no test files]\n"}
{"Action":"skip","Package":"ex/h","Elapsed":0}
`
)

func TestReport(t *testing.T) {
	for _, test := range []struct {
		name, stream string
		forbidSkips  bool
		want         bool
		holds, lacks []string
	}{
		{name: "not exercised", stream: inapplicable, forbidSkips: true, want: true,
			holds: []string{"passed: 1\nskipped: 0\nnot exercised: 1\n  ex/i.TestSuite/lock-keys: check.go:33: not exercised: needs a KeyLocker\nfailed: 0"}},
		{name: "pass", stream: passing, forbidSkips: true, want: true, lacks: []string{"chatter"},
			holds: []string{"ok    ex/a  0.1s", "passed: 1\nskipped: 0\nfailed: 0"}},
		{name: "suite", stream: suite, forbidSkips: true, want: true, lacks: []string{"Atomic"},
			holds: []string{"      conformance of TestSuite: dialect: 3 checks run, 3 passed, 0 failed, 1 not exercised\n"}},
		{name: "result", stream: result, forbidSkips: true, want: true, lacks: []string{"chatter"},
			holds: []string{"      TestKills: 100 kills, 0 lost\n"}},
		{name: "skip", stream: passing + skipping, want: true,
			holds: []string{"skipped: 1\n  ex/b.TestNeedy: b_test.go:7: POSTGRES is not set: start it\n"}},
		{name: "forbidden skip", stream: passing + skipping, forbidSkips: true,
			holds: []string{"ex/b.TestNeedy: b_test.go:7", "forbids skips"}},
		{name: "fail", stream: passing + failing, holds: []string{"got 1, want 2", "failed: 2\n  ex/c\n  ex/c.TestBad\n"}, lacks: []string{"=== RUN"}},
		{name: "failing package", stream: leaking, holds: []string{"goleak: found", "failed: 1\n  ex/d\n"}},
		{name: "time-out", stream: timedOut, holds: []string{"panic: test timed out", "  ex/e.TestSlow\n"}},
		{name: "cut short", stream: passing + cut, holds: []string{"failed: 1\n  ex/f\n"}},
		{name: "build failure", stream: passing + unbuildable, holds: []string{"syntax error", "failed: 1\n  ex/g\n"}},
		{name: "nothing ran", stream: testless, holds: []string{"no test ran"}},
		{name: "not JSON", stream: passing + "go: warning: no packages\n", want: true, holds: []string{"go: warning: no packages\n"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			if got := report(strings.NewReader(test.stream), &out, test.forbidSkips); got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
			for _, text := range test.holds {
				if !strings.Contains(out.String(), text) {
					t.Errorf("the report lacks %q", text)
				}
			}
			for _, text := range test.lacks {
				if strings.Contains(out.String(), text) {
					t.Errorf("the report holds %q", text)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
		})
	}
}
