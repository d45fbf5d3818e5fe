package core_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// What is due is deliverable: RunOnce promotes it first, however much it is, and leaves what is not due.
func TestRunOnceDeliversWhatIsDue(t *testing.T) {
	onBench(t, func(b *bench) {
		var msgs []core.Message
		for i := range 1200 { // more than two promotions move
			msgs = append(msgs, core.Message{ID: fmt.Sprint("due", i), Topic: "t", NotBefore: time.Now().Add(time.Minute)})
		}
		b.put(append(msgs, core.Message{ID: "later", Topic: "t", NotBefore: time.Now().Add(2 * time.Hour)})...)
		time.Sleep(time.Hour) // the bubble's clock
		if held, err := b.relay().RunOnce(b.Context()); len(held) != 0 || err != nil {
			b.Errorf("RunOnce: got %v, %v, want nothing held", held, err)
		}
		if n := len(b.recorder.Stored()); n != len(msgs) {
			b.Errorf("stored: got %d messages, want the %d that are due", n, len(msgs))
		}
		if n := len(b.memory.Contents().Delayed); n != 1 {
			b.Errorf("%d events are delayed, want the one that is not due", n)
		}
	})
}

// Events come due all the time while so much is held back that reading it takes longer than the wait between promotions:
// what is behind it is still read.
func TestPromotionsLeaveTheReaderTimeToReachTheTail(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.fate = func(m core.Message) error {
			if m.Topic == "away" {
				return core.ErrUnavailable
			}
			return nil
		}
		var msgs []core.Message
		for i := range 8000 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("away", i), Topic: "away", Key: fmt.Sprint(i)})
		}
		for i := range 600 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("delayed", i), Topic: "fine",
				NotBefore: time.Now().Add(5*time.Second + time.Duration(i)*100*time.Millisecond)})
		}
		b.put(msgs...)
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Fetch" {
				f.Before = 50 * time.Millisecond
			}
			return f
		})
		const allowed = 5 // seconds for the way to the tail and back, several times over
		b.during(func() {
			for i := range 60 {
				b.put(core.Message{ID: fmt.Sprint("live", i), Topic: "fine"})
				time.Sleep(time.Second) // the bubble's clock
				want := max(0, i-allowed) + max(0, i-5-allowed)*10
				if n := len(b.recorder.Stored()); n < want {
					b.Errorf("after %d s %d messages are stored, want at least %d", i+1, n, want)
					break
				}
			}
		})
	})
}
