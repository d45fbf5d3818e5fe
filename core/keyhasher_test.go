package core_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// hashing is a fake broker that says by which number it spreads keys, and hashed stands before one.
type hashing struct{ brokerFunc }

func (hashing) HashKey(_, key string) uint32 {
	if key == "" {
		panic("asked for a message without a key")
	}
	var n uint32
	_, _ = fmt.Sscan(key, &n)
	return n
}

type hashed struct{ core.Broker }

func (h hashed) Unwrap() core.Broker { return h.Broker }

// The relay spreads keys over its lanes as the broker does over its partitions: no call holds messages for two that differ by the lanes' number, and
// no two calls for the same one are under way at once. What has no key goes anywhere.
func TestLanesFollowTheBrokersHash(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes = quiet, 4
		var mu sync.Mutex
		busy := map[uint32]bool{}
		together := 0
		publish := func(ctx context.Context, msgs []core.Message) error {
			part := ^uint32(0)
			for _, m := range msgs {
				if m.Key == "" {
					continue
				}
				of := hashing{}.HashKey(m.Topic, m.Key) % 4
				if part != ^uint32(0) && of != part {
					b.Errorf("a call holds keys of %d and of %d", part, of)
				}
				part = of
			}
			mu.Lock()
			if busy[part] && part != ^uint32(0) {
				b.Errorf("two calls for %d are under way", part)
			}
			busy[part] = true
			together = max(together, len(busy))
			mu.Unlock()
			err := b.recorder.Publish(ctx, msgs)
			mu.Lock()
			delete(busy, part)
			mu.Unlock()
			return err
		}
		relay, err := core.NewRelay(b.memory, hashed{hashing{publish}}, b.config)
		if err != nil {
			b.Fatal(err)
		}
		b.runWith(relay, func() {
			for i := range 10 {
				b.put(core.Message{ID: fmt.Sprint("keyless", i), Topic: "t"})
				b.putKeys(10*i, 10*i+10)
				time.Sleep(500 * time.Microsecond) // the bubble's clock
			}
			time.Sleep(time.Second) // the bubble's clock
			b.wantOnce(110)
		})
		if together < 4 {
			b.Errorf("at most %d calls were under way at once, want 4", together)
		}
	})
}
