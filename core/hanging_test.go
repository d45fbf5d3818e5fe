package core_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// One message hangs when it is tried again, and as many of its key stand behind it as may. Nobody else waits for it.
func TestAHangingMessageStopsNobodyInItsLane(t *testing.T) {
	for _, test := range []struct{ lanes, size, topics int }{{1, 3000, 1}, {8, 3000, 1}, {1, 0, 2}} {
		t.Run(fmt.Sprintf("%d lanes, %d bytes, %d topics", test.lanes, test.size, test.topics), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes = quiet, test.lanes
				b.config.Failures.FirstDelay = time.Second
				var first []core.Message
				for i := range 3000 {
					for k := range test.topics {
						first = append(first, core.Message{ID: fmt.Sprint("bad", k, "-", i), Topic: fmt.Sprint("bad", k), Key: "k", Payload: make([]byte, test.size)})
					}
				}
				b.put(first...)
				var calls atomic.Int32
				bad := func(m core.Message) bool { return strings.HasSuffix(m.ID, "-0") }
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					if slices.ContainsFunc(msgs, bad) {
						if calls.Add(1) > 1 {
							return hung(ctx)
						}
					}
					return b.publish(ctx, msgs, refuse(bad))
				})
				b.runWith(relay, func() {
					time.Sleep(3 * time.Second) // the bubble's clock
					var good []core.Message
					for i := range 20000 {
						good = append(good, core.Message{ID: fmt.Sprint("good", i), Topic: "good", Key: fmt.Sprint(i), Payload: make([]byte, test.size)})
					}
					b.put(good...)
					time.Sleep(10 * time.Second) // the bubble's clock
					if n := len(b.recorder.Stored()); n < 20000 {
						b.Errorf("after ten seconds %d of 20000 are stored; %+v", n, relay.State())
					}
				})
			})
		})
	}
}
