package core_test

import (
	"errors"
	"fmt"
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
