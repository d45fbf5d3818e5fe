package conformance

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// hosted is a fixture on a server.
type hosted struct {
	server  string
	restart func() error
}

// hostedSuite is two checks that restart the server, one after a while.
func hostedSuite(first, second func(ctx context.Context, f hosted) error) suite[hosted] {
	groupOf := func(id string, run func(ctx context.Context, f hosted) error) group[hosted] {
		return group[hosted]{
			needs: "a server", has: func(f hosted) bool { return f.restart != nil }, alone: true,
			server: func(f hosted) string { return f.server },
			checks: []check[hosted]{{id, "a rule", run}},
		}
	}
	return suite[hosted]{
		subject: "trial", close: func(hosted) error { return nil },
		share: func(f hosted, restart func(own func() error) error) hosted {
			own := f.restart
			f.restart = func() error { return restart(own) }
			return f
		},
		groups: []group[hosted]{groupOf("pair-broker-restart", first), groupOf("pair-inbox-restart", second)},
	}
}

func TestChecksThatShareAServerRestartItOnce(t *testing.T) {
	refuse := errors.New("it is not")
	for name, c := range map[string]struct {
		server                  string
		fails                   bool // the first check, before it restarts
		rounds                  int  // of the second
		ends                    func() error
		wantRestarts, wantFails int
	}{
		"shared":                                {"s", false, 1, nil, 1, 0},
		"each its own":                          {"", false, 1, nil, 2, 0},
		"the first fails before it comes to it": {"s", true, 1, nil, 1, 1},
		"the second restarts it again":          {"s", false, 3, nil, 3, 0},
		"the restart fails":                     {"s", false, 1, func() error { return refuse }, 1, 2},
		"the restart does not return":           {"s", false, 1, func() error { runtime.Goexit(); return nil }, 1, 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			var restarts, running, most atomic.Int64
			restart := func() error {
				restarts.Add(1)
				time.Sleep(time.Second) // the bubble's clock: the other check would begin one of its own meanwhile
				if c.ends != nil {
					return c.ends()
				}
				return nil
			}
			during := func(after time.Duration, rounds int, fails bool) func(context.Context, hosted) error {
				return func(_ context.Context, f hosted) error {
					most.Store(max(most.Load(), running.Add(1)))
					defer running.Add(-1)
					for range rounds {
						time.Sleep(after) // the bubble's clock: one check comes to its restart before the other
						before := restarts.Load()
						if fails {
							return refuse
						}
						if err := f.restart(); err != nil {
							return err
						}
						if restarts.Load() == before {
							return errors.New("the server was not restarted since")
						}
					}
					return nil
				}
			}
			s := hostedSuite(during(time.Second, 1, c.fails), during(5*time.Second, c.rounds, false))
			report, _ := s.verify(t.Context(), func(context.Context) (hosted, error) { return hosted{c.server, restart}, nil })
			if got := report.Count(Failed); got != c.wantFails || report.Count(Passed) != 2-c.wantFails {
				t.Errorf("%s: got\n%s\nwant %d failures", name, report, c.wantFails)
			}
			if got := restarts.Load(); got != int64(c.wantRestarts) {
				t.Errorf("%s: got %d restarts, want %d", name, got, c.wantRestarts)
			}
			if together := most.Load() == 2; together != (c.server != "") {
				t.Errorf("%s: the checks ran together: %v", name, together)
			}
			if strings.Contains(report.String(), "nothing better than the end") {
				t.Errorf("%s: a check waited in vain: %s", name, report)
			}
		})
	}
}

// Whoever cannot take part keeps nobody waiting.
func TestAPartyGoesOnWithoutWhoIsMissing(t *testing.T) {
	for name, second := range map[string]func() (hosted, error){
		"no fixture":      func() (hosted, error) { return hosted{}, errors.New("no such host") },
		"not exercised":   func() (hosted, error) { return hosted{server: "s"}, nil },
		"another's guest": func() (hosted, error) { return hosted{"t", func() error { return nil }}, nil },
	} {
		synctest.Test(t, func(t *testing.T) {
			restarts, opened := 0, 0
			run := func(_ context.Context, f hosted) error { return f.restart() }
			report, _ := hostedSuite(run, run).verify(t.Context(), func(context.Context) (hosted, error) {
				if opened++; opened == 1 {
					return hosted{"s", func() error { restarts++; return nil }}, nil
				}
				return second()
			})
			if report.Checks[0].Status != Passed || restarts != 1 {
				t.Errorf("%s: got %d restarts and\n%s", name, restarts, report)
			}
		})
	}
}

// partyVariable says to be the test binary that runs a suite of which -run leaves checks out.
const partyVariable = "LOCKSTEP_TEST_CONFORMANCE_PARTY"

// A check that -run leaves out keeps the others waiting no longer. The go tool reads -run once, so it takes a process; one that
// waits for good ends with the time of this test.
func TestAPartyGoesOnWithoutWhatRunLeavesOut(t *testing.T) {
	if os.Getenv(partyVariable) != "" {
		restart := func() error { return nil }
		run := func(_ context.Context, f hosted) error { return f.restart() }
		hostedSuite(run, run).test(t, func(*testing.T) hosted { return hosted{"s", restart} })
		return
	}
	for _, c := range []string{"pair-broker-restart", "pair-inbox-restart"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.timeout=2m", "-test.run=^"+t.Name()+"$/^"+c+"$")
		cmd.Env = append(os.Environ(), partyVariable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+"/"+c) || !strings.Contains(string(out), "1 checks run, 1 passed") {
			t.Errorf("with -run for %s alone: got %v, want it to pass\n%s", c, err, out)
		}
	}
}
