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

// More keys fail than are held back one by one: their topic is held until there is room again, and no other.
func TestKeysAreHeldUpToABound(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.InFlight, b.config.PollInterval = 100, time.Second
		b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = 20*time.Second, 20*time.Second
		const keys, bound = 1200, 1000 // a relay's are 10 000
		var msgs []core.Message
		for i := range keys {
			msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "refused", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		healthy := time.Now().Add(9 * time.Second)
		b.fate = refuse(func(m core.Message) bool {
			return m.Topic == "refused" && time.Now().Before(healthy) || m.ID == "once" && time.Since(m.EnqueuedAt) < time.Second
		})
		relay := b.relay()
		relay.WithLimits(core.Limits{HeldKeys: bound})
		b.runWith(relay, func() {
			time.Sleep(8 * time.Second) // the bubble's clock; the first retry comes after ten
			state := relay.State()
			if state.HeldKeys > bound+b.config.InFlight || state.HeldKeys < bound || state.HeldTopics != 1 {
				b.Errorf("after eight seconds %d keys and %d topics are held, want %d keys or a few more, and one topic", state.HeldKeys, state.HeldTopics, bound)
			}
			b.put(core.Message{ID: "once", Topic: "fine", Key: "k"}, core.Message{ID: "other", Topic: "fine", Key: "o"})
			time.Sleep(time.Second) // the bubble's clock
			b.wantStored("other")
			if n := relay.State().HeldTopics; n != 1 {
				b.Errorf("%d topics are held after another one's refusal, want one", n)
			}
			time.Sleep(time.Minute) // the bubble's clock
		})
		if n := len(b.recorder.Stored()); n != keys+2 {
			b.Errorf("stored: got %d messages, want %d", n, keys+2)
		}
		if s := relay.State(); s != (core.RelayState{}) {
			b.Errorf("the relay holds %+v", s)
		}
	})
}
