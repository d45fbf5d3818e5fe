package core

import (
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
