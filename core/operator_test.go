package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// archived makes the bench's database keep what is delivered.
func (b *bench) archived() { b.memory = conformance.NewMemory(conformance.MemoryConfig{Archive: true}) }

// refuse makes the broker refuse some messages for good.
func (b *bench) refuse(ids ...string) {
	b.fate = func(m core.Message) error {
		if slices.Contains(ids, m.ID) {
			return core.ErrPermanent
		}
		return nil
	}
}

func TestRunOnceNamesWhatIsBlockedInTheDatabase(t *testing.T) {
	onBench(t, func(b *bench) {
		b.refuse("a1", "b1")
		b.enqueue("a1 a2 b1 c1")
		want := []core.Held{{Topic: "t", Key: "a", Position: 1, Blocked: true}, {Topic: "t", Key: "b", Position: 3, Blocked: true}}
		for round := range 2 { // the second relay has not buried them itself
			held, err := b.relay().RunOnce(b.Context())
			if err != nil || !slices.Equal(held, want) {
				b.Errorf("round %d: got %+v, %v, want %+v", round, held, err, want)
			}
		}
		operator := core.NewOperator(b.memory)
		if _, err := operator.PauseTopic(b.Context(), "other"); err != nil {
			b.Fatal(err)
		}
		held, err := b.relay().RunOnce(b.Context())
		if want = append([]core.Held{{Topic: "other", Blocked: true}}, want...); err != nil || !slices.Equal(held, want) {
			b.Errorf("with a paused topic: got %+v, %v, want %+v", held, err, want)
		}
	})
}

func TestAPausedTopicWaits(t *testing.T) {
	onBench(t, func(b *bench) {
		operator := core.NewOperator(b.memory)
		b.during(func() {
			changed, err := operator.PauseTopic(b.Context(), "t")
			if !changed || err != nil {
				b.Errorf("PauseTopic: got %v, %v, want a change", changed, err)
			}
			b.enqueue("a1 b2 a3")
			time.Sleep(10 * time.Minute) // the bubble's clock
			b.wantStored("")
			blocked, err := operator.Blocked(b.Context(), "", "", 10)
			if err != nil || len(blocked) != 1 || blocked[0].Topic != "t" || blocked[0].Key != "" {
				b.Errorf("Blocked: got %+v, %v, want the topic t", blocked, err)
			}
			if changed, err = operator.ResumeTopic(b.Context(), "t"); !changed || err != nil {
				b.Errorf("ResumeTopic: got %v, %v, want a change", changed, err)
			}
			time.Sleep(time.Second) // the bubble's clock
			if n := len(b.recorder.Stored()); n != 3 {
				b.Errorf("%d of 3 messages are stored a second after the pause", n)
			}
		})
		b.wantLeft("")
	})
}

func TestShowFindsOneDeadLetter(t *testing.T) {
	onBench(t, func(b *bench) {
		b.refuse("a1", "b1")
		b.enqueue("a1 b1 c1")
		if _, err := b.relay().RunOnce(b.Context()); err != nil {
			b.Fatal(err)
		}
		operator := core.NewOperator(b.memory)
		if _, err := operator.Drop(b.Context(), core.DeadFilter{ID: "b1"}, "not needed"); err != nil {
			b.Fatal(err)
		}
		for id, reason := range map[string]string{"a1": "", "b1": "not needed"} {
			if got, err := operator.Show(b.Context(), id); err != nil || got.Message.ID != id || got.DropReason != reason {
				b.Errorf("Show(%q): got %+v, %v, want it with the reason %q", id, got, err, reason)
			}
		}
		for _, id := range []string{"c1", "", "A1"} {
			if got, err := operator.Show(b.Context(), id); !errors.Is(err, core.ErrNotDead) {
				b.Errorf("Show(%q): got %+v, %v, want ErrNotDead", id, got, err)
			}
		}
	})
}

func TestFailingListsWhatWaitsForItsNextAttempt(t *testing.T) {
	onBench(t, func(b *bench) {
		b.fate = refuse(func(m core.Message) bool { return m.Key == "a" || m.Key == "c" })
		b.enqueue("a1 a2 b3 c4 d5")
		if _, err := b.relay().RunOnce(b.Context()); err != nil {
			b.Fatal(err)
		}
		operator := core.NewOperator(b.memory)
		var got []string
		for after := int64(0); ; {
			page, err := operator.Failing(b.Context(), after, 1)
			if err != nil {
				b.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			r := page[0]
			got, after = append(got, fmt.Sprint(r.Message.ID, " ", r.Attempts, " ", r.RetryIn > 0)), r.Position
		}
		if want := []string{"a1 1 true", "c4 1 true"}; !slices.Equal(got, want) {
			b.Errorf("Failing: got %q, want %q", got, want)
		}
	})
}

// What is replayed is delivered and kept again while the replay goes on. It is not replayed once more for that.
func TestReplayEndsWhileTheRelayDelivers(t *testing.T) {
	onBench(t, func(b *bench) {
		b.archived()
		const n = 1200 // more than two batches
		for i := range n {
			b.enqueue(fmt.Sprint("a", i))
		}
		operator := core.NewOperator(b.memory)
		b.during(func() {
			time.Sleep(10 * time.Minute) // the bubble's clock
			if got, err := operator.CountArchived(b.Context(), core.ArchiveFilter{Key: "a"}); got != n || err != nil {
				b.Fatalf("CountArchived: got %d, %v, want %d", got, err, n)
			}
			b.memory.Inject(func(call conformance.Call) (fault conformance.Fault) {
				if call.Op == "Replay" {
					fault.After = time.Minute // the relay delivers what it finds, before the next batch
				}
				return fault
			})
			if got, err := operator.Replay(b.Context(), core.ArchiveFilter{Topic: "t"}); got != n || err != nil {
				b.Errorf("Replay: got %d, %v, want %d", got, err, n)
			}
			b.memory.Inject(nil)
			time.Sleep(10 * time.Minute) // the bubble's clock
		})
		stored := b.recorder.Stored()
		if len(stored) != 2*n {
			b.Fatalf("%d deliveries, want %d", len(stored), 2*n)
		}
		for i, d := range stored {
			if want := fmt.Sprint("a", i%n); d.Message.ID != want {
				b.Fatalf("delivery %d is %s's, want %s's", i, d.Message.ID, want)
			}
		}
		if events, err := operator.Archived(b.Context(), core.ArchiveFilter{ID: "a7"}, core.Ref{}, 10); len(events) != 2 || err != nil {
			b.Errorf("Archived: got %+v, %v, want a7 twice", events, err)
		}
		if got, err := operator.Purge(b.Context(), 30*time.Minute); got != 0 || err != nil {
			b.Errorf("Purge of what is older than half an hour: got %d, %v, want none", got, err)
		}
		if got, err := operator.Purge(b.Context(), time.Minute); got != 2*n || err != nil {
			b.Errorf("Purge: got %d, %v, want %d", got, err, 2*n)
		}
	})
}

// bare is a dialect whose sessions can do no more than they must.
type bare struct{ core.Dialect }

func (d bare) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	return struct{ core.Session }{s}, err
}

func TestADialectWithoutAnArchiveSaysSo(t *testing.T) {
	operator := core.NewOperator(bare{conformance.NewMemory(conformance.MemoryConfig{})})
	_, archived := operator.Archived(t.Context(), core.ArchiveFilter{}, core.Ref{}, 1)
	_, counted := operator.CountArchived(t.Context(), core.ArchiveFilter{})
	_, replayed := operator.Replay(t.Context(), core.ArchiveFilter{})
	_, purged := operator.Purge(t.Context(), time.Hour)
	for _, err := range []error{archived, counted, replayed, purged} {
		if !errors.Is(err, core.ErrNoArchive) {
			t.Errorf("got %v, want ErrNoArchive", err)
		}
	}
}

// The answer to TakeLease is lost: the relay is the holder, and does not wait for itself.
func TestARelayTakesAgainWhatItHasTaken(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.LeaseTTL, b.config.Logger = time.Hour, quiet
		b.enqueue("a1")
		lost := 0
		b.memory.Inject(func(call conformance.Call) (fault conformance.Fault) {
			if call.Op == "TakeLease" && lost == 0 {
				lost++
				fault.Lose = true
			}
			return fault
		})
		b.during(func() { time.Sleep(time.Second) })
		if lease := b.memory.Contents().Lease; lost != 1 || lease.Epoch != 2 {
			b.Errorf("%d answers were lost, and the lease is %+v, want one and epoch 2", lost, lease)
		}
		b.wantStored("a1")
	})
}

// Whatever is held is told, and told again when it is not any more.
func TestHooksTellWhatIsHeldAndReleased(t *testing.T) {
	onBench(t, func(b *bench) {
		var mu sync.Mutex
		held := map[core.Held]int{}
		most, leading := 0, 0
		count := func(h core.Held, by int) {
			mu.Lock()
			defer mu.Unlock()
			held[core.Held{Topic: h.Topic, Key: h.Key}] += by
			most += max(by, 0)
		}
		b.config.Hooks.Held = func(h core.Held, _ error) { count(h, 1) }
		b.config.Hooks.Released = func(h core.Held) { count(h, -1) }
		b.config.Hooks.Leading = func(leads bool, _ int64) {
			if leading++; !leads {
				leading -= 2
			}
		}
		n := 0
		b.fate = func(m core.Message) error {
			switch m.Key {
			case "a":
				return errors.New("refused")
			case "b":
				return core.ErrPermanent
			case "c", "d", "e":
				if n++; n < 40 {
					return core.ErrUnavailable // the topic is held
				}
			}
			return nil
		}
		b.enqueue("a1 b1 c1 d1 e1 6 a2")
		relay := b.relay()
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- relay.Run(ctx) }()
		time.Sleep(3 * time.Second) // the bubble's clock
		synctest.Wait()             // the relay may have something to do at this very moment
		if s := relay.State(); !s.Leading || s.Epoch != 1 || s.HeldKeys == 0 || s.HeldTopics != 1 || s.InFlight == 0 || s.InFlightBytes == 0 {
			b.Errorf("while the topic is away: %+v", s)
		}
		mu.Lock()
		if held[core.Held{Topic: "t"}] != 1 {
			b.Errorf("while the topic is away, held are %v", held)
		}
		mu.Unlock()
		time.Sleep(10 * time.Minute) // the bubble's clock
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		for h, n := range held {
			if n != 0 {
				b.Errorf("%+v was held %d times more than released", h, n)
			}
		}
		if most < 5 || leading != 0 {
			b.Errorf("held %d times, want at least 5; leading %d times more than not", most, leading)
		}
		if s := relay.State(); s != (core.RelayState{}) {
			b.Errorf("after its end the relay's state is %+v", s)
		}
	})
}

// What was dropped is neither retried nor dropped again, which would go on for ever.
func TestDroppedDeadLettersStay(t *testing.T) {
	o := core.NewOperator(conformance.NewMemory(conformance.MemoryConfig{}))
	dropped := core.DeadFilter{Dropped: true}
	if n, err := o.Retry(t.Context(), dropped); n != 0 || !errors.Is(err, core.ErrDropped) {
		t.Errorf("Retry: got %d and %v, want %v", n, err, core.ErrDropped)
	}
	if n, err := o.Drop(t.Context(), dropped, "again"); n != 0 || !errors.Is(err, core.ErrDropped) {
		t.Errorf("Drop: got %d and %v, want %v", n, err, core.ErrDropped)
	}
}
