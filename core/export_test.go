package core

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// WithoutLease makes the relay work without asking for the lease, as nobody can outside of tests: two of them may
// send everything twice, and still keep the order.
func (r *Relay) WithoutLease() { r.unleased = true }

// WithRandom makes the relay's random waits repeatable.
func (r *Relay) WithRandom(random *rand.Rand) {
	r.random = func(n time.Duration) time.Duration { return time.Duration(random.Int64N(int64(n))) }
}

// Limits are those of the engine that a test can reach with a few records.
type Limits struct {
	Gaps, Probes, HeldKeys, Doubts int
	SweepPause                     time.Duration
}

// WithLimits replaces the relay's limits by those that are set.
func (r *Relay) WithLimits(l Limits) {
	set := func(limit *int, value int) {
		if value > 0 {
			*limit = value
		}
	}
	set(&r.limits.gaps, l.Gaps)
	set(&r.limits.probes, l.Probes)
	set(&r.limits.heldKeys, l.HeldKeys)
	set(&r.limits.doubts, l.Doubts)
	if l.SweepPause > 0 {
		r.limits.sweepPause = l.SweepPause
	}
}

// WithWallClock makes wall the relay's wall clock: a function of the instant alone, since it is asked about past ones.
func (r *Relay) WithWallClock(wall func(time.Time) time.Time) { r.wall = wall }

// TopicsRememberedAfter has an engine deliver a message of each of n topics, and returns of how many it remembers that they were alive.
func TopicsRememberedAfter(n int) int {
	e := newEngine(context.Background(), &RelayConfig{Lanes: 1}, usualLimits, nil, nil)
	for i := range n {
		it := &item{key: orderKey{topic: fmt.Sprint(i)}, lane: e.lanes[0]}
		e.ended(&call{items: []*item{it}, lane: e.lanes[0], number: int64(i)}, nil)
	}
	return len(e.alive)
}

// KeysRememberedForAScout has an engine read a message of each of n keys of a topic that is held, while there is no room for a scout,
// and returns the most keys that it remembers of them.
func KeysRememberedForAScout(n int) (most int) {
	config, _ := RelayConfig{Lanes: 1}.withDefaults()
	e := newEngine(context.Background(), &config, usualLimits, nil, nil)
	e.aside.load("hangs", config.InFlight/4, 0)
	t := e.newTopicHold("away")
	t.untilAlive, t.scouts, t.seen = true, 1, map[orderKey]bool{}
	for i := range n {
		e.dispatch(&Record{Position: int64(i + 1), Message: Message{ID: fmt.Sprint(i), Topic: "away", Key: fmt.Sprint(i)}})
		most = max(most, len(t.seen))
	}
	return most
}
