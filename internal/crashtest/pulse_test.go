package crashtest

import (
	"sync"
	"testing"
	"time"
)

// pulse notes when this machine had no time for this process. A promise of so many milliseconds is about a relay, and not about
// whatever else keeps the machine from it, or stops it.
type pulse struct {
	mu    sync.Mutex
	last  time.Time // tick
	beats []beat
}

// beat is a tick that came late.
type beat struct {
	at   time.Time
	late time.Duration
}

const pulseEvery = 5 * time.Millisecond

// startPulse watches until the test ends.
func startPulse(t *testing.T) *pulse {
	p := &pulse{last: time.Now()}
	end := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		timer := time.NewTimer(pulseEvery)
		defer timer.Stop()
		for {
			select {
			case <-end:
				return
			case <-timer.C:
				p.tick(time.Now())
				timer.Reset(pulseEvery)
			}
		}
	})
	t.Cleanup(func() {
		close(end)
		watching.Wait()
	})
	return p
}

func (p *pulse) tick(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if late := now.Sub(p.last) - pulseEvery; late > 0 {
		p.beats = append(p.beats, beat{now, late})
	}
	p.last = now
}

// without returns the time between two others without that in which the machine stood still. The second one is not in the future.
func (p *pulse) without(from, to time.Time) time.Duration {
	p.tick(time.Now()) // this goroutine may be awake before the other one
	p.mu.Lock()
	defer p.mu.Unlock()
	took := to.Sub(from)
	for _, b := range p.beats {
		if still, woke := b.at.Add(-b.late), b.at; still.Before(to) && woke.After(from) {
			took -= min(woke.Sub(still), woke.Sub(from), to.Sub(still), to.Sub(from))
		}
	}
	return took
}

func TestAPulseKnowsHowLongTheMachineStoodStill(t *testing.T) {
	t.Parallel()
	now := time.Now()
	at := func(milliseconds int) time.Time {
		return now.Add(time.Duration(milliseconds-10_000) * time.Millisecond)
	}
	p := &pulse{last: at(0)}
	for _, tick := range []int{5, 10, 1015, 1020, 1125, 1130} { // it stood still from 15 to 1015, and from 1025 to 1125
		p.tick(at(tick))
	}
	p.last = now.Add(time.Hour)
	for _, tt := range []struct{ from, to, want int }{
		{0, 10, 10}, {0, 1015, 15}, {10, 1130, 20}, {500, 1020, 5}, {0, 500, 15}, {500, 600, 0}, {1016, 1020, 4},
	} {
		if got := p.without(at(tt.from), at(tt.to)); got != time.Duration(tt.want)*time.Millisecond {
			t.Errorf("from %d to %d: got %v, want %d ms", tt.from, tt.to, got, tt.want)
		}
	}
}
