package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// hung is what a call returns that is answered by nobody, and reset what one does that breaks its connection.
func hung(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
func reset(context.Context) error    { return errors.New("connection reset") }

// publish stores those of msgs for which f has no error, and returns what the broker says of all.
func (b *bench) publish(ctx context.Context, msgs []core.Message, f func(core.Message) error) error {
	results := make([]error, len(msgs))
	var good []core.Message
	for i, m := range msgs {
		if results[i] = f(m); results[i] == nil {
			good = append(good, m)
		}
	}
	if len(good) > 0 {
		if err := b.recorder.Publish(ctx, good); err != nil {
			return err
		}
	}
	return &core.BatchError{Results: results}
}

// refuse returns what refuses those of which bad is true, as a fate, or as publish takes it.
func refuse(bad func(core.Message) bool) func(core.Message) error {
	return func(m core.Message) error {
		if bad(m) {
			return errors.New("refused")
		}
		return nil
	}
}

// A topic is held while the only message of it in memory is one that fails by its own fault, because other topics, or large
// messages, take up the memory for those that are tried again: the topic's other messages are delivered all the same.
func TestATopicHeldBehindAPoisonIsScouted(t *testing.T) {
	for name, test := range map[string]struct {
		away         int // topics that are away, with a message of 300 KB each
		poison, size int // messages that fail
		memory       int
		fail         func(context.Context) error
	}{
		"two large ones hang":                        {0, 2, 600_000, 16 << 20, hung},
		"two large ones break their calls":           {0, 2, 600_000, 16 << 20, reset},
		"a small one hangs, five topics are away":    {5, 1, 100, 16 << 20, hung},
		"a small one breaks it, and five are away":   {5, 1, 100, 16 << 20, reset},
		"there is memory for a thirteenth of it":     {0, 1, 70_000, 1 << 20, reset},
		"six small ones hang, three topics are away": {3, 6, 300_000, 8 << 20, hung},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.InFlightBytes = quiet, test.memory
				for i := range test.away {
					b.put(core.Message{ID: fmt.Sprint("away", i), Topic: fmt.Sprint("away", i), Key: "k", Payload: make([]byte, 300_000)})
				}
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					if slices.ContainsFunc(msgs, func(m core.Message) bool { return strings.HasPrefix(m.ID, "poison") }) {
						return test.fail(ctx)
					}
					return b.publish(ctx, msgs, func(m core.Message) error {
						if strings.HasPrefix(m.Topic, "away") {
							return core.ErrUnavailable
						}
						return nil
					})
				})
				b.runWith(relay, func() {
					time.Sleep(time.Minute + 10*time.Microsecond) // the bubble's clock
					for i := range test.poison {
						b.put(core.Message{ID: fmt.Sprint("poison", i), Topic: "b", Key: fmt.Sprint("p", i), Payload: make([]byte, test.size)})
					}
					time.Sleep(2 * time.Minute) // the bubble's clock
					for i := range 20 {
						b.put(core.Message{ID: fmt.Sprint("good", i), Topic: "b", Key: fmt.Sprint("g", i)})
						time.Sleep(time.Second) // the bubble's clock
					}
					time.Sleep(2 * time.Minute) // the bubble's clock: what is let through may hang for its whole time-out first
					if n := len(b.recorder.Stored()); n != 20 {
						b.Errorf("stored: got %d messages of the topic, want 20; the relay holds %+v", n, relay.State())
					}
				})
			})
		})
	}
}

// More messages of a topic wait for their next attempt, when a relay starts, than are held back key by key, and one fails by its
// own fault: the others are delivered when their time comes.
func TestACrowdedTopicIsNotHeldBehindAPoison(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.PollInterval = quiet, time.Second
		b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Minute, time.Minute
		const keys = 12_000
		var refusing atomic.Bool
		refusing.Store(true)
		b.put(core.Message{ID: "poison", Topic: "b", Key: "p"})
		var msgs []core.Message
		for i := range keys {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("x", i), Topic: "b", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Fetch" {
				f.Before = 5 * time.Millisecond
			}
			return f
		})
		broker := func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			if !refusing.Load() && slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == "poison" }) {
				return reset(ctx)
			}
			return b.publish(ctx, msgs, func(m core.Message) error {
				switch {
				case m.ID == "poison":
					return core.ErrUnavailable
				case refusing.Load():
					return errors.New("refused")
				}
				return nil
			})
		}
		run := func(d time.Duration) {
			b.runWith(b.relayTo(broker), func() { time.Sleep(d + 10*time.Microsecond) }) // the bubble's clock
		}
		run(20 * time.Second)
		refusing.Store(false)
		run(5 * time.Minute)
		b.wantLeft("poison")
	})
}

// Many topics are away: what is kept in memory of them is bounded, and so is what is sent. Each is delivered soon after the outage's end.
func TestProbesAreBoundedOverAllTopics(t *testing.T) {
	for name, away := range map[string]error{"unavailable": core.ErrUnavailable, "uncertain": errors.New("connection refused")} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				b.config.InFlight, b.config.InFlightBytes = 300, 300<<10
				const topics = 600
				for i := range topics {
					b.put(core.Message{ID: fmt.Sprint(i), Topic: fmt.Sprint("user.", i), Key: "k", Payload: make([]byte, 1000)})
				}
				var isAway atomic.Bool
				isAway.Store(true)
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					if isAway.Load() {
						return away
					}
					return b.recorder.Publish(ctx, msgs)
				})
				b.runWith(relay, func() {
					time.Sleep(10*time.Second + 10*time.Microsecond) // the bubble's clock
					if s := relay.State(); s.InFlightBytes > b.config.InFlightBytes/2 || s.InFlight > b.config.InFlight/2 || s.HeldKeys+s.HeldTopics < topics {
						b.Errorf("the relay holds %+v, want at most half of its memory full, and all topics held", s)
					}
					isAway.Store(false)
					time.Sleep(10 * time.Second) // the bubble's clock
					if n := len(b.recorder.Stored()); n != topics {
						b.Errorf("stored: got %d messages ten seconds after the outage, want %d", n, topics)
					}
				})
			})
		})
	}
}

// A topic hangs, and new keys of it come now and then: when its first calls have timed out, it is held, and no other topic
// waits for it any more.
func TestAHangingTopicIsHeldBeforeEachOfItsKeysHasHung(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		var late atomic.Int64
		start := time.Now()
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			for _, m := range msgs {
				if m.Topic == "bad" {
					return hung(ctx)
				}
			}
			for _, m := range msgs {
				if m.EnqueuedAt.Sub(start) > 65*time.Second && time.Since(m.EnqueuedAt) > time.Second {
					late.Add(1)
				}
			}
			return b.recorder.Publish(ctx, msgs)
		})
		b.runWith(relay, func() {
			for i := range 1800 {
				time.Sleep(100*time.Millisecond + 10*time.Microsecond) // the bubble's clock
				b.put(core.Message{ID: fmt.Sprint("good", i), Topic: "good", Key: fmt.Sprint(i % 100)})
				if i%20 == 0 {
					b.put(core.Message{ID: fmt.Sprint("bad", i), Topic: "bad", Key: fmt.Sprint(i)})
				}
			}
			time.Sleep(time.Second) // the bubble's clock
		})
		if n := len(b.recorder.Stored()); n != 1800 || late.Load() > 0 {
			b.Errorf("stored: %d messages of the topic that answers, want 1800; %d waited more than a second", n, late.Load())
		}
	})
}

// The reader has been on its way for a scout, and met none that it could let through, when an earlier message fails in a call that began
// before the topic was held: a later one of its key is no scout.
func TestAScoutDoesNotOvertakeWhatFailsMeanwhile(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		var called atomic.Bool
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			if called.CompareAndSwap(false, true) {
				time.Sleep(10 * time.Second) // the bubble's clock
				return reset(ctx)
			}
			time.Sleep(time.Millisecond) // the bubble's clock
			return b.publish(ctx, msgs, func(m core.Message) error {
				if m.Key != "a" {
					return core.ErrUnavailable
				}
				return nil
			})
		})
		b.runWith(relay, func() {
			b.enqueue("a1")
			time.Sleep(100*time.Millisecond + 10*time.Microsecond) // the bubble's clock
			b.enqueue("p1 q1 r1")
			time.Sleep(100 * time.Millisecond) // the bubble's clock
			if n := relay.State().HeldTopics; n != 1 {
				b.Fatalf("%d topics are held, want one: the test shows nothing", n)
			}
			b.enqueue("p2 q2 r2")        // their keys are held: there is something to look for, and nothing to find
			time.Sleep(10 * time.Second) // the bubble's clock
			b.enqueue("a2")
			time.Sleep(time.Minute) // the bubble's clock
			b.wantStored("a1 a2")
		})
	})
}
