package core_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// A topic that is held has few messages tried at a time, and once two of those hang, the next one only after a quarter of PublishTimeout, which
// may be long. It does not wait for that when those are cut: the broker is back.
func TestAHeldTopicIsTriedWhenItsLostCallsHaveEnded(t *testing.T) {
	for name, tt := range map[string]struct{ messages, inFlight int }{
		"what is tried is in memory":          {2, 0},
		"some of it is":                       {100, 0},
		"another topic's has the room for it": {100, 4},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				var away, silent atomic.Bool
				away.Store(true)
				var swallowed atomic.Int32
				b.config.InFlight = tt.inFlight
				relay := b.relayToPinged(func(ctx context.Context, msgs []core.Message) error {
					switch {
					case silent.Load():
						swallowed.Add(1)
						return hung(ctx)
					case away.Load():
						return core.ErrUnavailable
					}
					return b.recorder.Publish(ctx, msgs)
				}, silentWhile(&away, &silent))
				b.runWith(relay, func() {
					b.put(core.Message{ID: "u", Topic: "u", Key: "u"})
					time.Sleep(time.Second) // the bubble's clock
					b.putKeys(0, tt.messages)
					time.Sleep(5 * time.Second) // the bubble's clock
					silent.Store(true)
					away.Store(false)
					time.Sleep(time.Minute) // the bubble's clock
					if n := swallowed.Load(); n < 2 {
						b.Errorf("%d calls hang, which shows nothing", n)
					}
					silent.Store(false)
					time.Sleep(2 * time.Second) // the bubble's clock
					b.wantOnce(tt.messages + 1)
				})
			})
		})
	}
}
