package core_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// A topic is away, and between its messages are as many holes, where another topic's were. A relay that begins anew cannot
// know that those are delivered: it takes the holes for gaps, and comes to the tail all the same.
func TestManyHolesDoNotKeepTheReaderFromTheTail(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.fate = func(m core.Message) error {
			if m.Topic == "away" {
				return core.ErrUnavailable
			}
			return nil
		}
		var msgs []core.Message
		const pairs = 5000
		for i := range pairs {
			msgs = append(msgs, core.Message{ID: fmt.Sprint("away", i), Topic: "away", Key: fmt.Sprint(i)},
				core.Message{ID: fmt.Sprint("fine", i), Topic: "fine", Key: fmt.Sprint(i)})
		}
		b.put(msgs...)
		fetches := b.countFetches(100 * time.Microsecond)
		for round := range 2 {
			b.during(func() {
				time.Sleep(20 * time.Second) // the bubble's clock
				b.put(core.Message{ID: fmt.Sprint("live", round), Topic: "fine"})
				time.Sleep(time.Second) // the bubble's clock
				if n := len(b.recorder.Stored()); n != pairs+1+round {
					b.Errorf("round %d: stored: got %d messages, want %d", round, n, pairs+1+round)
				}
			})
		}
		if n := fetches.Load(); n > 1500 {
			b.Errorf("%d fetches: what brings nothing new is read without a pause", n)
		}
	})
}

// countFetches counts them, and has each call of the database take so long: what calls without a pause would otherwise stop the
// bubble's clock, and not fail.
func (b *bench) countFetches(took time.Duration) *atomic.Int64 {
	var fetches atomic.Int64
	b.memory.Inject(func(c conformance.Call) conformance.Fault {
		if c.Op == "Fetch" {
			fetches.Add(1)
		}
		return conformance.Fault{Before: took}
	})
	return &fetches
}

// interleave begins a transaction that enqueues one message between two of others, n times, and commits those. It returns the transaction.
func (b *bench) interleave(n int, topic string) *conformance.MemoryTx {
	b.Helper()
	tx, err := b.memory.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	outbox := core.NewOutbox(b.memory, core.OutboxConfig{})
	for i := range n {
		if err := outbox.Enqueue(b.Context(), tx, core.Message{ID: fmt.Sprint("slow", i), Topic: "slow", Key: "k"}); err != nil {
			b.Fatal(err)
		}
		b.put(core.Message{ID: fmt.Sprint(topic, i), Topic: topic, Key: fmt.Sprint(i)})
	}
	return tx
}

// A transaction that stays open leaves more gaps than a fetch has ranges. What it commits at last is all found at once, and
// in order, by the gaps alone.
func TestEveryGapIsRemembered(t *testing.T) {
	for _, gaps := range []int{200, 300, 2000} {
		t.Run(fmt.Sprint(gaps), func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				tx := b.interleave(gaps, "fast")
				relay := b.unswept()
				b.runWith(relay, func() {
					time.Sleep(10 * time.Second) // the bubble's clock
					if n := len(b.recorder.Stored()); n != gaps || relay.State().Gaps != gaps {
						b.Errorf("before its commit: stored: got %d messages, and %d gaps, want %d of each", n, relay.State().Gaps, gaps)
					}
					if err := tx.Commit(); err != nil {
						b.Fatal(err)
					}
					time.Sleep(5 * time.Second) // the bubble's clock: a key's messages go one by one, a millisecond each
					stored := b.recorder.Stored()[gaps:]
					for i, d := range stored {
						if want := fmt.Sprint("slow", i); d.Message.ID != want {
							b.Fatalf("after its commit %s is stored as number %d", d.Message.ID, i)
						}
					}
					if len(stored) != gaps || relay.State().Gaps != 0 {
						b.Errorf("after its commit: stored: got %d messages of %d, and %d gaps", len(stored), gaps, relay.State().Gaps)
					}
				})
			})
		})
	}
}

// The same gaps, while what lies between them is held back: what is read again and again does not keep the reader from the tail.
func TestGapsBetweenHeldMessagesLeaveTheTailAlone(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.fate = func(m core.Message) error {
			if m.Topic == "away" {
				return core.ErrUnavailable
			}
			return nil
		}
		tx := b.interleave(1000, "away")
		relay := b.unswept()
		fetches := b.countFetches(time.Millisecond)
		b.runWith(relay, func() {
			time.Sleep(5 * time.Second) // the bubble's clock
			fetches.Store(0)
			for i := range 10 {
				b.put(core.Message{ID: fmt.Sprint("live", i), Topic: "fine"})
				time.Sleep(time.Second) // the bubble's clock
			}
			if n := len(b.recorder.Stored()); n != 10 {
				b.Errorf("stored: got %d messages, want ten", n)
			}
			if most := int64(10*time.Second/(10*time.Millisecond)) + 100; fetches.Load() > most {
				b.Errorf("%d fetches in ten seconds, want at most %d: a gap is looked into every 10 ms", fetches.Load(), most)
			}
			if err := tx.Rollback(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(5 * time.Second) // the bubble's clock
			if n := relay.State().Gaps; n != 0 {
				b.Errorf("%d gaps after the rollback, want none", n)
			}
		})
	})
}

// Beyond many gaps, what lies between the youngest is read as if it were unread, and nothing is forgotten.
func TestGapsBeyondTheMostAreMerged(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		const gaps = 1000
		tx := b.interleave(gaps, "fast")
		relay := b.unswept()
		relay.WithLimits(core.Limits{Gaps: 3}) // of which 64 times as many are remembered
		b.runWith(relay, func() {
			time.Sleep(10 * time.Second) // the bubble's clock
			if n := relay.State().Gaps; n > 3*64 || n < 3*32 {
				b.Errorf("%d gaps are remembered, want at most %d, and not few", n, 3*64)
			}
			if err := tx.Commit(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(5 * time.Second) // the bubble's clock
			if n := len(b.recorder.Stored()); n != 2*gaps || relay.State().Gaps != 0 {
				b.Errorf("stored: got %d messages of %d, and %d gaps", n, 2*gaps, relay.State().Gaps)
			}
		})
	})
}

// Who could fill the gaps is asked by turns, and of each while its transaction is open: so a transaction that begins later does not keep
// any of them from being found dead when that one has ended.
func TestEachGapIsLookedAtEarly(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		const gaps = 120
		tx := b.interleave(gaps, "fast")
		relay := b.unswept()
		relay.WithLimits(core.Limits{Gaps: 3}) // twelve are asked about at a time
		b.runWith(relay, func() {
			time.Sleep(10*time.Second + 10*time.Microsecond) // the bubble's clock
			later := b.interleave(1, "later")
			if err := tx.Rollback(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(time.Second) // the bubble's clock; ten questions at four a second would take longer
			if n := relay.State().Gaps; n != 1 {
				b.Errorf("%d gaps a second after the rollback, want the later transaction's: where all are dead, the rest is asked about at once", n)
			}
			if err := later.Commit(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(time.Second) // the bubble's clock
			if n := len(b.recorder.Stored()); n != gaps+2 || relay.State().Gaps != 0 {
				b.Errorf("stored: got %d messages and %d gaps, want %d and none", n, relay.State().Gaps, gaps+2)
			}
		})
	})
}

// unswept returns a relay that reads everything once, and then finds what it finds without looking at everything again.
func (b *bench) unswept() *core.Relay {
	b.Helper()
	relay := b.relay()
	relay.WithLimits(core.Limits{SweepPause: 24 * time.Hour})
	return relay
}
