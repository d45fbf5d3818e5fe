package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// bench is an outbox and a broker in memory, in a bubble of their own.
type bench struct {
	*testing.T
	memory   *conformance.Memory
	recorder *conformance.Recorder
	config   core.RelayConfig
	fate     func(core.Message) error // nil: stored
}

func onBench(t *testing.T, f func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, memory: conformance.NewMemory(conformance.MemoryConfig{}), recorder: &conformance.Recorder{}}
		b.recorder.Inject(func(call conformance.PublishCall) (fault conformance.PublishFault) {
			fault.Before = time.Millisecond
			for _, m := range call.Messages {
				var fate conformance.Fate
				if b.fate != nil {
					fate.Err = b.fate(m)
				}
				fault.Fates = append(fault.Fates, fate)
			}
			return fault
		})
		f(b)
		for _, err := range b.recorder.Misuse() {
			t.Error(err)
		}
	})
}

// enqueue commits messages named by their key and their number: "a1 b2 3", where 3 has no key.
func (b *bench) enqueue(names string) {
	b.Helper()
	tx, err := b.memory.Begin(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	var msgs []core.Message
	for _, name := range strings.Fields(names) {
		msgs = append(msgs, core.Message{ID: name, Topic: "t", Key: strings.TrimRight(name, "0123456789")})
	}
	if err := core.NewOutbox(b.memory, core.OutboxConfig{}).Enqueue(b.Context(), tx, msgs...); err != nil {
		b.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) relay() *core.Relay {
	b.Helper()
	r, err := core.NewRelay(b.memory, b.recorder, b.config)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// during runs a relay while f runs.
func (b *bench) during(f func()) {
	b.Helper()
	b.runWith(b.relay(), f)
}

func (b *bench) wantStored(names string) {
	b.Helper()
	var ids []string
	for _, d := range b.recorder.Stored() {
		ids = append(ids, d.Message.ID)
	}
	if got := strings.Join(ids, " "); got != names {
		b.Errorf("stored: got %q, want %q", got, names)
	}
}

func (b *bench) wantLeft(names string) {
	b.Helper()
	var ids []string
	for _, r := range b.memory.Contents().Records {
		ids = append(ids, r.Message.ID)
	}
	if got := strings.Join(ids, " "); got != names {
		b.Errorf("left in the outbox: got %q, want %q", got, names)
	}
}

func TestRelayHoldsBackOnlyTheKeyThatFailed(t *testing.T) {
	onBench(t, func(b *bench) {
		b.enqueue("a1 b2 a3 c4")
		b.fate = refuse(func(m core.Message) bool { return m.ID == "a1" })
		held, err := b.relay().RunOnce(b.Context())
		if err != nil || len(held) != 1 || held[0] != (core.Held{Topic: "t", Key: "a", Position: 1}) {
			b.Errorf("RunOnce: got %v, %v, want the key a held at position 1", held, err)
		}
		b.wantLeft("a1 a3")
		if r := b.memory.Contents().Records[0]; r.Attempts != 1 || r.RetryIn <= 0 {
			b.Errorf("a1 has %d attempts and waits %v, want 1 and a wait", r.Attempts, r.RetryIn)
		}
	})
}

func TestRelayRetriesInOrderAndBuriesAfterMaxAttempts(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Failures.MaxAttempts = 3
		refusals := map[string]int{"a1": 2, "b1": 99}
		b.fate = func(m core.Message) error {
			if refusals[m.ID] > 0 {
				refusals[m.ID]--
				return errors.New("refused")
			}
			return nil
		}
		b.enqueue("a1 b1 a2 b2 c1")
		b.during(func() { time.Sleep(time.Minute) })
		b.wantStored("c1 a1 a2")
		b.wantLeft("b2")
		now := b.memory.Contents()
		if len(now.Dead) != 1 || now.Dead[0].Message.ID != "b1" || now.Dead[0].Attempts != 3 || !strings.Contains(now.Dead[0].Cause, "refused") {
			b.Errorf("dead letters: got %+v, want b1 after 3 attempts", now.Dead)
		}

		// An operator retries it, and the key's order holds.
		refusals["b1"] = 0
		operator := core.NewOperator(b.memory)
		b.during(func() {
			if n, err := operator.Retry(b.Context(), core.DeadFilter{Topic: "t"}); n != 1 || err != nil {
				b.Errorf("Retry: got %d, %v, want 1", n, err)
			}
			time.Sleep(time.Minute) // the bubble's clock
		})
		b.wantStored("c1 a1 a2 b1 b2")
		b.wantLeft("")
	})
}

func TestAPermanentFailureIsBuriedAtOnce(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Topics = map[string]core.FailurePolicy{"t": {SkipDead: true}}
		b.fate = func(m core.Message) error {
			if m.ID == "a1" {
				return fmt.Errorf("%w: too large", core.ErrPermanent)
			}
			return nil
		}
		b.enqueue("a1 a2")
		if held, err := b.relay().RunOnce(b.Context()); len(held) != 0 || err != nil {
			b.Errorf("RunOnce: got %v, %v, want nothing held: the key goes on", held, err)
		}
		b.wantStored("a2")
		if dead := b.memory.Contents().Dead; len(dead) != 1 || dead[0].Attempts != 1 {
			b.Errorf("dead letters: got %+v, want a1 after one attempt", dead)
		}
	})
}

// Whatever does not say for certain that a message is stored leaves it in the outbox, and counts no attempt.
func TestNothingUncertainIsTakenForStored(t *testing.T) {
	var typedNil *core.BatchError
	for name, answer := range map[string]error{
		"plain error":        errors.New("connection closed"),
		"wrong length":       &core.BatchError{Results: make([]error, 7)},
		"typed nil":          typedNil,
		"a batch in another": fmt.Errorf("two brokers: %w", errors.Join(&core.BatchError{Results: []error{nil, errors.New("x")}}, errors.New("y"))),
		"unavailable":        core.ErrUnavailable,
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Lanes = 1
				b.enqueue("a1 b2")
				relay, err := core.NewRelay(b.memory, brokerFunc(func(context.Context, []core.Message) error { return answer }), b.config)
				if err != nil {
					b.Fatal(err)
				}
				ctx, stop := context.WithTimeout(b.Context(), time.Minute)
				defer stop()
				if err := relay.Run(ctx); err != nil {
					b.Error(err)
				}
				b.wantLeft("a1 b2")
				for _, r := range b.memory.Contents().Records {
					if r.Attempts != 0 {
						b.Errorf("%s: %d attempts were counted, want none", r.Message.ID, r.Attempts)
					}
				}
			})
		})
	}
}

// brokerFunc is a fake broker.
type brokerFunc func(ctx context.Context, msgs []core.Message) error

func (f brokerFunc) Publish(ctx context.Context, msgs []core.Message) error { return f(ctx, msgs) }

func TestAnOutageCostsNothingButTime(t *testing.T) {
	onBench(t, func(b *bench) {
		for _, away := range []error{core.ErrUnavailable, core.ErrUncertain} {
			b.enqueue("a1 a2 b1 c1")
			back := time.Now().Add(10 * time.Minute)
			b.fate = func(core.Message) error {
				if time.Now().Before(back) {
					return away
				}
				return nil
			}
			before := len(b.recorder.Stored())
			b.during(func() { time.Sleep(10*time.Minute + 2*time.Second) })
			if n := len(b.recorder.Stored()) - before; n != 4 {
				b.Errorf("%v: %d of 4 messages are stored two seconds after the outage", away, n)
			}
		}
		if now := b.memory.Contents(); len(now.Records)+len(now.Dead) != 0 {
			b.Errorf("left: %v, dead %v", now.Records, now.Dead)
		}
	})
}

func TestAStopFinishesWhatIsInFlight(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Lanes, b.config.BatchSize = 1, 1
		b.enqueue("a1 a2")
		ctx, stop := context.WithCancel(b.Context())
		b.fate = func(core.Message) error { stop(); return nil }
		if err := b.relay().Run(ctx); err != nil {
			b.Errorf("Run: got %v, want nil", err)
		}
		b.wantStored("a1")
		b.wantLeft("a2")
		if lease := b.memory.Contents().Lease; lease.Holder != "" {
			b.Errorf("the lease is still %q's", lease.Holder)
		}
	})
}

func TestADrainThatTakesTooLongSaysWhatIsLeft(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.DrainTimeout = time.Second
		b.enqueue("a1")
		ctx, stop := context.WithCancel(b.Context())
		relay, err := core.NewRelay(b.memory, brokerFunc(func(ctx context.Context, _ []core.Message) error {
			stop()
			<-ctx.Done()
			return ctx.Err()
		}), b.config)
		if err != nil {
			b.Fatal(err)
		}
		var drain *core.DrainError
		if err := relay.Run(ctx); !errors.As(err, &drain) || drain.Publishing != 1 {
			b.Errorf("Run: got %v, want a *DrainError with one call", err)
		}
		b.wantLeft("a1")
	})
}

func TestAnAdapterThatNeverReturnsEndsTheRelay(t *testing.T) {
	onBench(t, func(b *bench) {
		release := make(chan struct{})
		for i := range 200 {
			b.enqueue(fmt.Sprintf("%s1", strings.Repeat("k", i+1)))
		}
		b.config.BatchSize = 1
		relay, err := core.NewRelay(b.memory, brokerFunc(func(context.Context, []core.Message) error {
			<-release
			return errors.New("late")
		}), b.config)
		if err != nil {
			b.Fatal(err)
		}
		if err := relay.Run(b.Context()); !errors.Is(err, core.ErrAbandoned) {
			b.Errorf("Run: got %v, want ErrAbandoned", err)
		}
		close(release)
	})
}

// A transaction that took its positions first and commits last.
func TestALateCommitIsPublishedByTheNextFetch(t *testing.T) {
	onBench(t, func(b *bench) {
		early, err := b.memory.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		outbox := core.NewOutbox(b.memory, core.OutboxConfig{})
		if err := outbox.Enqueue(b.Context(), early, core.Message{ID: "early", Topic: "t", Key: "e"}); err != nil {
			b.Fatal(err)
		}
		b.enqueue("late1")
		b.during(func() {
			time.Sleep(time.Minute) // the bubble's clock
			b.wantStored("late1")
			if err := early.Commit(); err != nil {
				b.Fatal(err)
			}
			time.Sleep(200 * time.Millisecond) // a gap is looked into every 10 ms, and the wait between polls is 100
			b.wantStored("late1 early")
		})
	})
}

func TestDelayedMessagesTakeTheirPlaceWhenTheyComeDue(t *testing.T) {
	onBench(t, func(b *bench) {
		tx, err := b.memory.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		outbox := core.NewOutbox(b.memory, core.OutboxConfig{})
		for i, wait := range []time.Duration{20 * time.Second, 10 * time.Second, 0} {
			m := core.Message{ID: fmt.Sprint("m", i), Topic: "t", Key: "k"}
			if wait > 0 {
				m.NotBefore = time.Now().Add(wait)
			}
			if err := outbox.Enqueue(b.Context(), tx, m); err != nil {
				b.Fatal(err)
			}
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
		b.during(func() {
			time.Sleep(9 * time.Second) // the bubble's clock
			b.wantStored("m2")
			time.Sleep(2 * time.Second) // the bubble's clock
			b.wantStored("m2 m1")
			time.Sleep(10 * time.Second) // the bubble's clock
			b.wantStored("m2 m1 m0")
		})
	})
}

func TestAStandbyTakesOver(t *testing.T) {
	onBench(t, func(b *bench) {
		var mu sync.Mutex
		led := map[int64]time.Time{}
		b.config.Hooks.Leading = func(leads bool, epoch int64) {
			mu.Lock()
			defer mu.Unlock()
			if leads {
				led[epoch] = time.Now()
			}
		}
		first, stopFirst := context.WithCancel(b.Context())
		second, stopSecond := context.WithCancel(b.Context())
		var relays sync.WaitGroup
		relays.Go(func() { _ = b.relay().Run(first) })
		synctest.Wait()
		relays.Go(func() { _ = b.relay().Run(second) })
		when := func(epoch int64) (time.Time, int) {
			mu.Lock()
			defer mu.Unlock()
			return led[epoch], len(led)
		}
		time.Sleep(20 * time.Second) // the bubble's clock
		if _, n := when(1); n != 1 {
			b.Fatalf("%d relays led, want one while the other stands by", n)
		}
		stopped := time.Now()
		stopFirst()
		time.Sleep(time.Second) // the bubble's clock
		began, _ := when(2)
		if took := began.Sub(stopped); took < 0 || took > 200*time.Millisecond {
			b.Errorf("the takeover after a graceful stop took %v, want at most 200 ms", took)
		}
		stopSecond()
		relays.Wait()
	})
}

func TestRelayConfigNamesEveryBadField(t *testing.T) {
	_, err := core.NewRelay(conformance.NewMemory(conformance.MemoryConfig{}), &conformance.Recorder{}, core.RelayConfig{
		Lanes: -1, PollInterval: -1, Failures: core.FailurePolicy{MaxAttempts: -1},
		Topics: map[string]core.FailurePolicy{"x": {FirstDelay: time.Hour, MaxDelay: time.Second}},
	})
	for _, field := range []string{"Lanes", "PollInterval", "Failures.MaxAttempts", `Topics["x"].MaxDelay`} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("NewRelay: got %v, want an error that names %s", err, field)
		}
	}
}

func TestARelayRunsOnce(t *testing.T) {
	onBench(t, func(b *bench) {
		relay := b.relay()
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- relay.Run(ctx) }()
		synctest.Wait()
		if err := relay.Run(ctx); !errors.Is(err, core.ErrRunning) {
			b.Errorf("a second Run: got %v, want ErrRunning", err)
		}
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

func TestAWrapperMayNotHideFencing(t *testing.T) {
	recorder := &conformance.Recorder{}
	hiding := struct{ wrapper }{wrapper{recorder.Client(conformance.ClientConfig{Terms: true})}}
	if _, err := core.NewRelay(conformance.NewMemory(conformance.MemoryConfig{}), hiding, core.RelayConfig{}); err == nil ||
		!strings.Contains(err.Error(), "ForTerm") {
		t.Errorf("NewRelay: got %v, want an error that names ForTerm", err)
	}
}

type wrapper struct{ inner core.Broker }

func (w wrapper) Publish(ctx context.Context, msgs []core.Message) error {
	return w.inner.Publish(ctx, msgs)
}
func (w wrapper) Unwrap() core.Broker { return w.inner }

func TestADropNeedsAReason(t *testing.T) {
	if _, err := core.NewOperator(conformance.NewMemory(conformance.MemoryConfig{})).Drop(t.Context(), core.DeadFilter{}, ""); !errors.Is(err, core.ErrNoReason) {
		t.Errorf("Drop: got %v, want ErrNoReason", err)
	}
}

func TestAMessageThatKillsItsCallsTravelsAloneAndIsBuried(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Lanes, b.config.Failures.MaxAttempts = 1, 2
		b.enqueue("a1 b1 poison1 c1 d1 poison2")
		relay, err := core.NewRelay(b.memory, brokerFunc(func(ctx context.Context, msgs []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			if slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == "poison1" }) {
				return errors.New("connection closed by the server")
			}
			return b.recorder.Publish(ctx, msgs)
		}), b.config)
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- relay.Run(ctx) }()
		for i := range 200 { // others prove that the broker is alive
			b.enqueue(fmt.Sprintf("other%d", i+1))
			time.Sleep(100 * time.Millisecond) // the bubble's clock
		}
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		b.wantLeft("poison2")
		if dead := b.memory.Contents().Dead; len(dead) != 1 || dead[0].Message.ID != "poison1" {
			b.Errorf("dead letters: got %v, want poison1", dead)
		}
		if n := len(b.recorder.Stored()); n != 204 {
			b.Errorf("stored: got %d messages, want 204", n)
		}
	})
}
