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

// What a hold keeps back is read again when it ends, by the reader that goes back to it: no sweep helps.
func TestWhatAHoldPassedOverIsReadAgain(t *testing.T) {
	for name, test := range map[string]struct {
		ordered      bool // the broker takes several messages of a key in a call
		batch        int
		away         string // the messages that fail until the topic is back
		notAttempted string // and those that a first call leaves out
		first, later string // enqueued before, and while the topic is away
		heldTopics   int
	}{
		"behind a key's probe, waiting in the lane":     {false, 1, "a1", "", "a1 a2 b1", "", 0},
		"behind a key's probe, read later":              {false, 1, "a1", "", "a1 b1", "a2", 0},
		"behind a key's probe, in the same call":        {true, 3, "a", "", "a1 a2 b1", "", 0},
		"in a held topic, waiting in the lane":          {false, 1, "a b c d e", "", "a1 b1 c1 d1 e1", "", 1},
		"in a held topic, read later":                   {false, 2, "a b c d e", "", "a1 b1", "c1 d1 e1 a2", 1},
		"in a held topic, in the call that has it held": {false, 5, "a b c d e", "", "a1 b1 c1 d1 e1", "", 1},
		"in a held topic, not attempted":                {false, 5, "a b", "c d e", "a1 b1 c1 d1 e1", "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.Lanes, b.config.BatchSize = quiet, 1, test.batch
				var back atomic.Bool
				matches := func(names string, m core.Message) bool {
					return slices.ContainsFunc(strings.Fields(names), func(s string) bool { return s == m.ID || s == m.Key })
				}
				b.recorder.Inject(func(call conformance.PublishCall) (f conformance.PublishFault) {
					f.Before = time.Millisecond
					for _, m := range call.Messages {
						var fate conformance.Fate
						switch {
						case !back.Load() && matches(test.away, m):
							fate.Err = core.ErrUnavailable
						case !back.Load() && matches(test.notAttempted, m):
							fate.Err = core.ErrNotAttempted
						}
						f.Fates = append(f.Fates, fate)
					}
					return f
				})
				b.enqueue(test.first)
				var broker core.Broker = b.recorder
				if test.ordered {
					broker = b.recorder.Client(conformance.ClientConfig{KeyOrdered: true})
				}
				relay, err := core.NewRelay(b.memory, broker, b.config)
				if err != nil {
					b.Fatal(err)
				}
				relay.WithLimits(core.Limits{SweepPause: 24 * time.Hour})
				b.runWith(relay, func() {
					time.Sleep(2*time.Second + 10*time.Microsecond) // the bubble's clock
					if n := relay.State().HeldTopics; n != test.heldTopics {
						b.Errorf("%d topics are held, want %d: the test shows nothing", n, test.heldTopics)
					}
					b.enqueue(test.later)
					time.Sleep(2 * time.Second) // the bubble's clock
					back.Store(true)
					time.Sleep(30 * time.Second) // the bubble's clock
					b.wantLeft("")
				})
				var ids []string
				for _, d := range b.recorder.Stored() {
					if d.Message.Key == "a" {
						ids = append(ids, d.Message.ID)
					}
				}
				if !slices.IsSorted(ids) {
					b.Errorf("stored of a: %v", ids)
				}
			})
		})
	}
}

// A lane is full, and everything for it from some position on is passed over. What a late commit then puts before that position is too, and
// is read again as well.
func TestAFullLanePassesOverALateCommit(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes, b.config.BatchSize, b.config.InFlight = quiet, 1, 1, 80
		tx := b.interleave(1, "fast")
		var msgs []core.Message
		const backlog = 1000
		for i := range backlog {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("backlog", i), Topic: "fast"})
		}
		b.put(msgs...)
		over := make(chan struct{})
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			<-over
			time.Sleep(time.Millisecond) // the bubble's clock
			return b.recorder.Publish(ctx, msgs)
		})
		relay.WithLimits(core.Limits{SweepPause: 24 * time.Hour})
		b.runWith(relay, func() {
			time.Sleep(2*time.Second + 10*time.Microsecond) // the bubble's clock
			if n := relay.State().InFlight; n != 20 && n != 21 {
				b.Errorf("%d messages are in flight, want the quarter of 80 that a lane takes: the test shows nothing", n)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(2 * time.Second) // the bubble's clock
			close(over)
			time.Sleep(30 * time.Second) // the bubble's clock
			if n := len(b.recorder.Stored()); n != backlog+2 {
				b.Errorf("stored: got %d messages, want %d", n, backlog+2)
			}
			b.wantLeft("")
		})
	})
}

// A lane that has room again has the reader go back, but only when it is where it was before: otherwise a lane that fills and
// empties fast would keep it from the tail.
func TestTheReaderIsBackBeforeItGoesBackAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes, b.config.BatchSize, b.config.InFlight = quiet, 4, 1, 80
		var msgs []core.Message
		for i := range 3000 {
			msgs = append(msgs, core.Message{ID: fmt.Sprint(i), Topic: "t", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Fetch" {
				f.Before = 5 * time.Millisecond
			}
			return f
		})
		var rewinds, again int
		var end int64
		b.config.Hooks.Rewound = func(from, _ int64) {
			rewinds++
			if from < end {
				again++
			}
			end = max(end, from)
		}
		relay := b.unswept()
		b.runWith(relay, func() { time.Sleep(time.Minute) })
		if rewinds < 5 || again > 0 {
			b.Errorf("%d of %d ways back began on the way back from another, want none of five or more", again, rewinds)
		}
		b.wantLeft("")
	})
}

// A message may wait for its retry when an earlier one of its key is committed and fails: that its time comes ends nothing,
// while the earlier one is still tried.
func TestARetryThatComesDueDoesNotOvertakeALateCommit(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.config.Failures.FirstDelay, b.config.Failures.MaxDelay = time.Second, time.Second
		late, err := b.memory.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		outbox := core.NewOutbox(b.memory, core.OutboxConfig{})
		if err := outbox.Enqueue(b.Context(), late, core.Message{ID: "a1", Topic: "t", Key: "a"}); err != nil {
			b.Fatal(err)
		}
		b.enqueue("a2")
		refused := false
		b.fate = func(m core.Message) error {
			if m.ID == "a2" && !refused {
				refused = true
				return errors.New("refused")
			}
			return nil
		}
		b.during(func() { time.Sleep(100 * time.Millisecond) }) // the bubble's clock: its attempt is counted
		if err := late.Commit(); err != nil {
			b.Fatal(err)
		}
		away := time.Now().Add(3 * time.Second)
		b.fate = func(m core.Message) error {
			if m.ID == "a1" && time.Now().Before(away) {
				return core.ErrUnavailable
			}
			return nil
		}
		b.during(func() { time.Sleep(10 * time.Second) }) // the bubble's clock: another relay, which reads both
		b.wantStored("a1 a2")
		b.wantLeft("")
	})
}
