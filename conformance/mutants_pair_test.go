package conformance

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pairMutant is a pair with one fault, of a kind that real outboxes had, the check that must find it, and what that says.
type pairMutant struct {
	caught string
	says   string // or one of several that are true of it, parted by |: which one shows first is chance
	alter  alteredDialect
	begin  func() alteredDialect                 // where alter has a state, which no other run must see
	broker publishFunc                           // nil: the recorder's own
	harm   func(p *pair, m *Memory, r *Recorder) // changes what the fixture does
}

// harmless are pairs that look wrong and break no promise: a check that fails for them asks for too much.
var harmless = map[string]pairMutant{
	"two relays that both own the outbox": {caught: "pair-relay-killed",
		alter: alteredDialect{session: altered{renew: func(context.Context, *memorySession, string, int64, time.Duration, bool) (bool, error) {
			return true, nil
		}}}},
	"a lease that anybody may take": {caught: "pair-takeover",
		alter: alteredDialect{session: altered{read: func(ctx context.Context, s *memorySession) (core.Lease, error) {
			lease, err := s.ReadLease(ctx)
			lease.Expired = true
			return lease, err
		}}}},
	"one writer at a time":                           {caught: "pair-late-commit", harm: oneWriter},
	"one writer at a time, and the next one refused": {caught: "pair-late-commit", harm: func(p *pair, m *Memory, _ *Recorder) { writersOf(p, m, 100*time.Millisecond) }},
	"every event sent twice":                         {caught: "pair-many-keys", broker: pairBrokerMutants["sends each message twice"].broker},
	"positions with holes": {caught: "pair-many-keys",
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			m.mu.Lock()
			m.next += 7
			m.mu.Unlock()
			return m.Enqueue(ctx, tx, msgs)
		}}},
}

func (mutant pairMutant) run(t *testing.T, c check[pair]) CheckResult {
	m := NewMemory(MemoryConfig{})
	if mutant.begin != nil {
		mutant.alter = mutant.begin()
	}
	mutant.alter.Memory = m
	r := &Recorder{}
	config := ClientConfig{KeyOrdered: true}
	broker, elsewhere := r.Client(config), r.Client(config)
	if mutant.broker != nil {
		broker, elsewhere = wrap(broker, mutant.broker), wrap(elsewhere, mutant.broker)
	}
	p := pair{MemoryFixture(m), RecorderFixture(r, broker)}
	p.broker.Elsewhere = elsewhere
	p.Dialect = mutant.alter
	if mutant.harm != nil {
		mutant.harm(&p, m, r)
	}
	return c.verdict(t.Context(), p, pairSuite.limit(p))
}

func pairCheck(t *testing.T, id string) check[pair] {
	t.Helper()
	for _, g := range pairGroups {
		for _, c := range g.checks {
			if c.id == id {
				return c
			}
		}
	}
	t.Fatalf("there is no check %s", id)
	return check[pair]{}
}

// mutantRuns is within how many runs of its check a mutant is caught. A check draws its schedule, and a fault of the kind that
// meets an event at the wrong moment misses the moment in some.
const mutantRuns = 20

// Each of these faults is found by the check that is there for it, by what it does and not by a time-out, and each check
// finds one.
func TestPairMutantsAreCaught(t *testing.T) {
	finds := map[string]bool{}
	all := maps.Clone(pairDialectMutants)
	maps.Copy(all, pairBrokerMutants)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mutant := all[name]
		c := pairCheck(t, mutant.caught)
		finds[c.id] = true
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got, runs := mutant.run(t, c), 1
				for ; got.Status == Passed && runs < mutantRuns; runs++ {
					got = mutant.run(t, c)
				}
				t.Logf("caught by run %d", runs)
				says := func(text string) bool { return strings.Contains(got.Error, text) }
				if got.Status != Failed || !slices.ContainsFunc(strings.Split(mutant.says, "|"), says) {
					t.Errorf("of a pair that %s, the check %s says %q; want %q", name, c.id, got.Error, mutant.says)
				}
				if got.TimedOut {
					t.Errorf("a pair that %s is caught by a time-out and nothing better: %s", name, got.Error)
				}
				time.Sleep(20 * checkTimeout) // for what a fault has left behind
			})
		})
	}
	for _, g := range pairGroups {
		if g.ofFixture {
			continue // TestMistakesInTheFixturesOfAPairAreTold
		}
		for _, c := range g.checks {
			if !finds[c.id] && c.id != foundElsewhere {
				t.Errorf("no mutant shows that the check %s finds anything", c.id)
			}
		}
	}
}

// foundElsewhere is a check that compares events with rows, which a Memory does not have: its mutant runs on a real
// database, in internal/matrix.
const foundElsewhere = "pair-lost-commit-answer"

func TestHarmlessPairsPass(t *testing.T) {
	for name, mutant := range harmless {
		c := pairCheck(t, mutant.caught)
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := mutant.run(t, c); got.Status != Passed {
					t.Errorf("%s breaks no promise, and %s says %s", name, c.id, got.Error)
				}
			})
		})
	}
}
