package conformance

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryAndRecorder(t *testing.T) {
	for name, config := range map[string]ClientConfig{"minimal": {}, "key ordered with terms": {KeyOrdered: true, Terms: true}} {
		t.Run(name, func(t *testing.T) {
			TestPair(t, func(*testing.T) DialectFixture { return MemoryFixture(NewMemory(MemoryConfig{})) }, func(t *testing.T) BrokerFixture {
				r := &Recorder{}
				t.Cleanup(func() {
					if errs := r.Misuse(); errs != nil {
						t.Error(errs)
					}
				})
				return RecorderFixture(r, r.Client(config))
			})
		})
	}
}

// In bubbles, where waiting costs nothing. A broken engine is looked at in this way.
func TestPairsInBubbles(t *testing.T) {
	for _, g := range pairGroups {
		for _, c := range g.checks {
			t.Run(c.id, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					if got := (pairMutant{}).run(t, c); got.Status != Passed {
						t.Error(got.complaint())
					}
				})
			})
		}
	}
}

// An adapter is promised that no two calls hold a key at the same time, also where a check has two relays at work and the
// fixture one Broker.
func TestRelaysThatShareABrokerTakeTurns(t *testing.T) {
	c := pairCheck(t, "pair-takeover")
	for range 5 {
		synctest.Test(t, func(t *testing.T) {
			r := &Recorder{}
			p := pair{MemoryFixture(NewMemory(MemoryConfig{})), RecorderFixture(r, r)}
			p.broker.Elsewhere = nil
			r.Inject(func(PublishCall) PublishFault {
				return PublishFault{Before: 5 * time.Millisecond, After: 5 * time.Millisecond}
			})
			if got := c.verdict(t.Context(), p, pairSuite.limit(p)); got.Status != Passed {
				t.Error(got.complaint())
			}
			if errs := r.Misuse(); errs != nil {
				t.Error(errs)
			}
		})
	}
}
