package core_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// Keys come due one after another while so much is held that the way to the tail takes longer than that: the reader
// comes to the tail before it goes back again.
func TestRewindsLeaveTheReaderTimeToReachTheTail(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures = core.FailurePolicy{MaxAttempts: 1 << 20, FirstDelay: 100 * time.Millisecond, MaxDelay: 100 * time.Millisecond}
		b.fate = func(m core.Message) error {
			switch m.Topic {
			case "away":
				return core.ErrUnavailable
			case "refused":
				return errors.New("refused")
			}
			return nil
		}
		var msgs []core.Message
		for i := range 50 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("refused", i), Topic: "refused", Key: fmt.Sprint(i)})
		}
		for i := range 4000 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("away", i), Topic: "away", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Fetch" {
				f.Before = 50 * time.Millisecond
			}
			return f
		})
		relay := b.unswept()
		b.runWith(relay, func() {
			time.Sleep(10 * time.Second) // the bubble's clock
			for i := range 20 {
				b.put(core.Message{ID: fmt.Sprint("live", i), Topic: "fine"})
				time.Sleep(time.Second) // the bubble's clock
			}
			if n := len(b.recorder.Stored()); n < 19 {
				b.Errorf("stored: got %d messages, want twenty, or all but the last", n)
			}
		})
	})
}

// On its way back the reader is sent back once more, to the start: it is where it was only when it has come as far as before the
// first of the two.
func TestAWayBackWithinAWayBackEndsWhereTheFirstBegan(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures = core.FailurePolicy{FirstDelay: time.Hour, MaxDelay: time.Hour}
		b.fate = func(core.Message) error { return errors.New("refused") }
		const records, perFetch = 5000, 1000
		b.config.InFlight = perFetch
		var msgs []core.Message
		for i := range records {
			msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "refused", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		var sweeping, bumped atomic.Bool
		var reads, swept atomic.Int64
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op != "Fetch" {
				return f
			}
			f.Before = 20 * time.Millisecond
			if n := reads.Add(1); sweeping.Load() && n == 3 && bumped.CompareAndSwap(false, true) { // two fetches of the sweep have returned
				go func() {
					if _, err := core.NewOperator(b.memory).PauseTopic(b.Context(), "another"); err != nil {
						b.Error(err)
					}
				}()
			}
			return f
		})
		b.config.Hooks.Rewound = func(from, to int64) {
			if to == 1 && from >= records && !bumped.Load() {
				sweeping.Store(true)
			}
			if to == 1 {
				reads.Store(0)
			}
		}
		b.config.Hooks.Swept = func(time.Duration) {
			if bumped.Load() {
				swept.CompareAndSwap(0, reads.Load())
			}
		}
		relay := b.relay()
		relay.WithLimits(core.Limits{SweepPause: 1700 * time.Millisecond})
		b.runWith(relay, func() { time.Sleep(4*time.Second + 10*time.Microsecond) }) // the bubble's clock
		if swept.Load() < records/perFetch {
			b.Errorf("the sweep was over %d fetches after its second beginning, want all of %d; a generation was changed: %v", swept.Load(), records/perFetch, bumped.Load())
		}
	})
}

// A reading session that ends while an acknowledgement is on its way is followed by another one when that has arrived: the message
// would be read, and sent, again.
func TestANewSessionWaitsForWhatIsBeingSettled(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		failed := false
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			switch {
			case c.Op == "Acknowledge":
				f.Before = 3 * time.Second
			case c.Op == "Fetch" && !failed && len(b.recorder.Stored()) > 0:
				failed = true
				f.Refuse = errors.New("connection reset")
			}
			return f
		})
		b.enqueue("a1")
		b.during(func() { time.Sleep(10*time.Second + 10*time.Microsecond) }) // the bubble's clock
		if !failed {
			b.Error("no fetch failed: the test shows nothing")
		}
		b.wantStored("a1")
		b.wantLeft("")
	})
}
