package conformance

import (
	"sync"
	"time"
)

// losses is what a run of a suite knows about messages that never came. A broker that loses them, or a Read that does not find
// them, fails in most checks, and each would wait for them as long as a slow machine may need.
type losses struct {
	mu   sync.Mutex
	some bool
	took time.Duration // the longest time after which messages came
}

// leastPatience is how long what must be there is waited for, in any case.
const leastPatience = 2 * time.Second

// patience is usual, until something was waited for in vain; then it is a multiple of what was enough for the others.
func (l *losses) patience(usual time.Duration) time.Duration {
	if l == nil {
		return usual
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.some {
		return usual
	}
	return min(usual, max(leastPatience, 4*l.took))
}

// note notes that messages came after so long, or never.
func (l *losses) note(took time.Duration, came bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if came {
		l.took = max(l.took, took)
	} else {
		l.some = true
	}
}
