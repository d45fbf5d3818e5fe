package core_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// A failover that nobody tells of hands out positions again, below the cursor: no gap, no generation and no incarnation says so.
// The sweep finds what stands there.
func TestTheSweepFindsWhatNothingTellsOf(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.during(func() {
			time.Sleep(time.Second + 10*time.Microsecond) // the bubble's clock
			b.enqueue("a1")
			time.Sleep(200 * time.Millisecond) // the bubble's clock
			b.wantStored("a1")
			if lost := b.memory.Restart(conformance.Restart{Lose: 2, KeepSessions: true, KeepIncarnation: true}); len(lost) != 1 {
				b.Fatalf("lost: %v, want a1 and its acknowledgement", lost)
			}
			b.enqueue("b1")
			time.Sleep(30 * time.Second) // the bubble's clock
			b.wantStored("a1")
			time.Sleep(40 * time.Second) // the bubble's clock: a minute from the beginning
			b.wantStored("a1 b1")
		})
	})
}

// The same while the position's first record is in flight: whatever has it read again shows that it is another one's now, and
// the reader begins anew.
func TestAPositionThatIsUsedAgainWhileInFlight(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes = quiet, 4
		lost := 0
		b.config.Hooks.Lost = func(error) { lost++ }
		b.put(core.Message{ID: "refused", Topic: "t", Key: "r"})
		var refused atomic.Bool
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			switch id := msgs[0].ID; {
			case id == "refused" && refused.CompareAndSwap(false, true): // it is read again a second later
				return &core.BatchError{Results: []error{errors.New("refused")}}
			case id == "slow":
				time.Sleep(20 * time.Second) // the bubble's clock
			}
			return b.recorder.Publish(ctx, msgs)
		})
		relay.WithLimits(core.Limits{SweepPause: 24 * time.Hour})
		b.config.BatchSize = 1
		b.runWith(relay, func() {
			time.Sleep(100*time.Millisecond + 10*time.Microsecond) // the bubble's clock
			b.put(core.Message{ID: "slow", Topic: "t", Key: "s"})
			time.Sleep(200 * time.Millisecond) // the bubble's clock; the first retry comes half a second after the failure or later
			if ids := b.memory.Restart(conformance.Restart{Lose: 1, KeepSessions: true, KeepIncarnation: true}); len(ids) != 1 {
				b.Fatalf("lost: %v, want the slow one", ids)
			}
			b.put(core.Message{ID: "young", Topic: "t", Key: "y"})
			time.Sleep(time.Minute) // the bubble's clock
		})
		if lost == 0 {
			b.Error("the reader did not begin anew")
		}
		b.wantLeft("")
		if got := len(b.recorder.Stored()); got < 2 {
			b.Errorf("stored: got %d messages", got)
		}
	})
}

// What a relay was told to wait for, its successor waits for too.
func TestARetryTimeOutlivesTheRelay(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Minute, time.Minute // the first wait is half of it at least
		var tried []time.Duration
		begun := time.Now()
		b.fate = func(m core.Message) error {
			if m.ID == "a1" {
				tried = append(tried, time.Since(begun))
				if len(tried) == 1 {
					return errors.New("refused")
				}
			}
			return nil
		}
		b.enqueue("a1 a2 b1")
		for range 5 {
			b.during(func() { time.Sleep(5 * time.Second) })
		}
		b.wantStored("b1")
		b.during(func() { time.Sleep(2 * time.Minute) })
		b.wantStored("b1 a1 a2")
		if len(tried) != 2 || tried[1] < 30*time.Second {
			b.Errorf("a1 was tried after %v, want twice, the second time after half a minute at least", tried)
		}
	})
}

// A message that failed may be what makes its calls fail: when it is tried again, nobody else is in its call.
func TestARetryTravelsAlone(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprintf("restarted %v", restarted), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes = quiet, 1
				b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = 10*time.Second, 10*time.Second
				var mu sync.Mutex
				refusals := 0
				calls := map[string]int{} // with a1, by their size
				relay := func() *core.Relay {
					return b.relayTo(func(ctx context.Context, msgs []core.Message) error {
						time.Sleep(time.Millisecond) // the bubble's clock
						mu.Lock()
						results := make([]error, len(msgs))
						first := false
						for i, m := range msgs {
							if m.ID == "a1" {
								calls[fmt.Sprint(len(msgs))]++
								if refusals++; refusals == 1 {
									results[i], first = errors.New("refused"), true
								}
							}
						}
						mu.Unlock()
						if first {
							return &core.BatchError{Results: results}
						}
						return b.recorder.Publish(ctx, msgs)
					})
				}
				b.enqueue("a1 b1 c1")
				wait := time.Second
				if !restarted {
					wait = time.Minute
				}
				b.runWith(relay(), func() { time.Sleep(wait) })
				if restarted {
					b.enqueue("d1 e1 f1")
					time.Sleep(time.Minute) // the bubble's clock
					b.enqueue("g1")
					b.runWith(relay(), func() { time.Sleep(time.Minute) })
				}
				if calls["3"] != 1 || calls["1"] != 1 || len(calls) != 2 {
					b.Errorf("calls with a1, by their size: %v, want one of three messages, and one of it alone", calls)
				}
			})
		})
	}
}
