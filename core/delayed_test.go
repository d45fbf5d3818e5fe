package core_test

import (
	"fmt"
	"testing"
	"time"

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
