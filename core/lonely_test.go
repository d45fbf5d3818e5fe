package core_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Topics whose messages all hang have more of them to try again than there are calls. A message of another topic that was
// refused once gets its next attempt all the same.
func TestAHangingTopicLeavesOthersTheirRetries(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		for i := range 60 {
			b.put(core.Message{ID: fmt.Sprint("hang", i), Topic: "hang", Key: fmt.Sprint(i)})
		}
		refused := false
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			switch m := msgs[0]; {
			case m.Topic == "hang":
				<-ctx.Done()
				return ctx.Err()
			case m.ID == "first" && !refused:
				refused = true
				return &core.BatchError{Results: []error{errors.New("refused")}}
			}
			return b.recorder.Publish(ctx, msgs)
		})
		b.runWith(relay, func() {
			time.Sleep(2 * time.Minute) // the bubble's clock
			b.put(core.Message{ID: "first", Topic: "fine", Key: "k"}, core.Message{ID: "next", Topic: "fine", Key: "k"})
			time.Sleep(3 * time.Second) // the bubble's clock; the first delay is a second at most
			b.wantStored("first next")
		})
	})
}
