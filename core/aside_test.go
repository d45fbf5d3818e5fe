package core_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// More messages of a topic than fit into memory were refused once, and hang when they are tried again, each with others behind it: the
// reader goes on for other topics, and every message is delivered once in its order when the topic answers.
func TestRetriesThatHangLeaveOthersTheMemory(t *testing.T) {
	for name, behind := range map[string]int{"alone": 0, "with others of their keys behind them": 3} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.InFlight = quiet, 200
				b.config.Failures.FirstDelay = time.Second
				const keys = 400
				var first, then []core.Message
				for i := range keys {
					first = append(first, core.Message{ID: fmt.Sprint("bad", i, "-0"), Topic: "bad", Key: fmt.Sprint(i)})
					for k := range behind {
						then = append(then, core.Message{ID: fmt.Sprint("bad", i, "-", k+1), Topic: "bad", Key: fmt.Sprint(i)})
					}
				}
				b.put(append(first, then...)...)
				var hangs, over atomic.Bool
				relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
					time.Sleep(time.Millisecond) // the bubble's clock
					bad := func(m core.Message) bool { return m.Topic == "bad" && !over.Load() }
					if hangs.Load() && slices.ContainsFunc(msgs, bad) {
						return hung(ctx)
					}
					return b.publish(ctx, msgs, refuse(bad))
				})
				b.runWith(relay, func() {
					time.Sleep(400*time.Millisecond + 10*time.Microsecond) // the bubble's clock
					hangs.Store(true)
					for i := range 40 {
						time.Sleep(time.Second) // the bubble's clock
						b.put(core.Message{ID: fmt.Sprint("good", i), Topic: "good", Key: fmt.Sprint(i)})
						time.Sleep(500 * time.Millisecond) // the bubble's clock
						if n := len(b.recorder.Stored()); n != i+1 {
							b.Fatalf("stored: got %d messages of the topic that answers, want %d; the relay holds %+v", n, i+1, relay.State())
						}
					}
					over.Store(true)
					time.Sleep(3 * time.Minute) // the bubble's clock
				})
				b.wantLeft("")
				next := map[string]int{}
				for _, d := range b.recorder.Stored() {
					if d.Message.Topic == "bad" {
						if want := fmt.Sprint("bad", d.Message.Key, "-", next[d.Message.Key]); d.Message.ID != want {
							b.Errorf("stored of key %s: got %s, want %s", d.Message.Key, d.Message.ID, want)
						}
						next[d.Message.Key]++
					}
				}
			})
		})
	}
}

// What waits behind a message that hangs when it is tried again does not count against its lane, whose other keys go on.
func TestWhatWaitsBehindARetryLeavesItsLaneFree(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.InFlight, b.config.Lanes, b.config.PublishTimeout = quiet, 100, 1, 20*time.Second
		var msgs []core.Message
		for i := range 200 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("bad", i), Topic: "t", Key: "bad"})
		}
		b.put(msgs...)
		var tries atomic.Int32
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			bad := func(m core.Message) bool { return m.ID == "bad0" }
			if slices.ContainsFunc(msgs, bad) {
				if tries.Add(1) > 1 {
					return hung(ctx)
				}
			}
			return b.publish(ctx, msgs, refuse(bad))
		})
		b.runWith(relay, func() {
			time.Sleep(5 * time.Second) // the bubble's clock
			for i := range 10 {
				b.putKeys(5*i, 5*i+5)
				time.Sleep(time.Second) // the bubble's clock
				if n := len(b.recorder.Stored()); n != 5*i+5 {
					b.Fatalf("stored: got %d messages of other keys, want %d; the relay holds %+v", n, 5*i+5, relay.State())
				}
			}
			if n := tries.Load(); n != 2 {
				b.Errorf("the message that hangs was sent %d times, which shows nothing", n)
			}
		})
	})
}

// What is remembered of topics that were alive is bounded, however many there were: only those that hold something back need it.
func TestTopicsThatWereAliveAreForgotten(t *testing.T) {
	if few, many := core.TopicsRememberedAfter(1000), core.TopicsRememberedAfter(50_000); few > 1000 || many > 10_000 {
		t.Errorf("%d of 1000 topics, and %d of 50 000, are remembered; want at most 10 000", few, many)
	}
}

// What is remembered of a held topic's backlog, in which a message to let through is looked for, is bounded: there may be millions.
func TestKeysThatAScoutPassesAreForgotten(t *testing.T) {
	if few, many := core.KeysRememberedForAScout(1000), core.KeysRememberedForAScout(50_000); few != 1000 || many > 10_000 {
		t.Errorf("%d of 1000 keys, and %d of 50 000, are remembered; want all, and at most 10 000", few, many)
	}
}

// A key is blocked while a fetch is under way that saw it before, on the reader's way back: its next message is not sent.
func TestABurialDuringAFetch(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			f.Before, f.After = 100*time.Microsecond, 100*time.Microsecond
			if c.Op == "Fetch" {
				f.After = 7 * time.Millisecond
			}
			return f
		})
		b.recorder.Inject(func(call conformance.PublishCall) (f conformance.PublishFault) {
			f.Before = time.Duration(len(call.Messages[0].ID)%7)*time.Millisecond + 1300*time.Microsecond
			for _, m := range call.Messages {
				var fate conformance.Fate
				if strings.HasSuffix(m.ID, "-1") {
					fate.Err = core.ErrPermanent
				}
				f.Fates = append(f.Fates, fate)
			}
			return f
		})
		relay := b.relay()
		relay.WithLimits(core.Limits{SweepPause: 9 * time.Millisecond})
		const keys = 500
		b.runWith(relay, func() {
			for i := range keys {
				time.Sleep(3*time.Millisecond + 170*time.Microsecond) // the bubble's clock
				k := fmt.Sprintf("%s%d", strings.Repeat("x", i%7), i)
				b.put(core.Message{ID: k + "-1", Topic: "t", Key: k}, core.Message{ID: k + "-2", Topic: "t", Key: k})
			}
			time.Sleep(5 * time.Second) // the bubble's clock
		})
		if n := len(b.memory.Contents().Dead); n != keys {
			b.Errorf("%d dead letters, want %d", n, keys)
		}
		if all := b.recorder.Stored(); len(all) != 0 {
			b.Errorf("%d messages were stored whose keys are blocked, the first is %s", len(all), all[0].Message.ID)
		}
	})
}

// Two transactions' gap fills while it is asked who could fill it, and with more than the next fetch reads.
func TestAGapThatIsFilledBeyondAFetch(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.InFlight, b.config.Lanes = quiet, 400, 8
		tx, err := b.memory.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		outbox := core.NewOutbox(b.memory, core.OutboxConfig{})
		const slow = 600
		for i := range slow {
			if err := outbox.Enqueue(b.Context(), tx, core.Message{ID: fmt.Sprint("slow", i), Topic: "slow", Key: fmt.Sprint(i)}); err != nil {
				b.Fatal(err)
			}
		}
		b.put(core.Message{ID: "last", Topic: "t", Key: "k"})
		committed := make(chan error, 1)
		asked := false
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			f.Before = time.Millisecond
			if c.Op == "ResolveGaps" {
				f.Before = 5 * time.Millisecond
				if !asked {
					asked = true
					go func() {
						time.Sleep(time.Millisecond) // the bubble's clock
						committed <- tx.Commit()
					}()
				}
			}
			return f
		})
		b.runWith(b.unswept(), func() { time.Sleep(30*time.Second + 10*time.Microsecond) }) // the bubble's clock
		if err := <-committed; err != nil {
			b.Fatal(err)
		}
		if n := len(b.recorder.Stored()); n != slow+1 {
			b.Errorf("stored: got %d messages, want %d", n, slow+1)
		}
	})
}
