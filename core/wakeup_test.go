package core_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// elsewhere is an application in another process: its outbox shares nothing with the relay but the database.
func (b *bench) elsewhere() (commit func(id string)) {
	outbox := core.NewOutbox(b.memory, core.OutboxConfig{Logger: quiet})
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		outbox.Run(ctx)
	}()
	b.Cleanup(func() { stop(); <-ended })
	return func(id string) {
		b.enqueue(id)
		outbox.Wake()
	}
}

// seldom is longer than any wait between two reads: a relay that is not woken sweeps once a minute.
const seldom = 61300 * time.Millisecond

// promptly tells how many of ten messages are delivered within 50 ms of their commits, which are far apart.
func (b *bench) promptly(commit func(id string)) (prompt int) {
	for n := range 10 {
		time.Sleep(seldom) // the bubble's clock
		before := len(b.recorder.Stored())
		commit(fmt.Sprint("a", n))
		time.Sleep(50 * time.Millisecond) // the bubble's clock
		prompt += len(b.recorder.Stored()) - before
	}
	return prompt
}

// A relay that polls seldom hears of a commit in another process at once.
func TestACommitInAnotherProcessWakesTheRelay(t *testing.T) {
	onBench(t, func(b *bench) {
		var woken atomic.Int64
		b.config.PollInterval, b.config.Hooks.Woken = time.Hour, func() { woken.Add(1) }
		b.during(func() {
			if n := b.promptly(b.enqueue); n == 10 {
				b.Error("without an announcement all of ten messages are delivered at once: the test shows nothing")
			}
			before := woken.Load()
			if n := b.promptly(b.elsewhere()); n != 10 {
				b.Errorf("with announcements %d of ten messages are delivered at once", n)
			}
			if n := woken.Load() - before; n < 10 {
				b.Errorf("the hook was told of %d wake-ups, want 10", n)
			}
		})
	})
}

// What was missed while the connection was broken is found when it is there again.
func TestABrokenListenerIsStartedAgain(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.PollInterval, b.config.Logger = time.Hour, quiet
		commit := b.elsewhere()
		var refuse atomic.Bool
		b.memory.Inject(func(call conformance.Call) (fault conformance.Fault) {
			fault.Before = time.Millisecond
			if refuse.Load() && (call.Op == "Listen" || call.Op == "Notify") {
				fault.Refuse = errors.New("no connection")
			}
			return fault
		})
		b.during(func() {
			time.Sleep(seldom) // the bubble's clock
			refuse.Store(true)
			b.memory.Restart(conformance.Restart{KeepSessions: true, KeepIncarnation: true}) // LISTEN's connection alone breaks
			commit("a1")
			time.Sleep(1500 * time.Millisecond) // the bubble's clock
			b.wantStored("")
			refuse.Store(false)
			time.Sleep(1100 * time.Millisecond) // the longest wait between two tries is a second
			b.wantStored("a1")
			if n := b.promptly(commit); n != 10 { // the announcing side is back as well
				b.Errorf("afterwards %d of ten messages are delivered at once", n)
			}
		})
	})
}

// deaf is a dialect that cannot announce.
type deaf struct{ core.Dialect }

func TestOutboxRunEndsWithItsContext(t *testing.T) {
	for name, dialect := range map[string]core.Dialect{
		"announcing": conformance.NewMemory(conformance.MemoryConfig{}), "not announcing": deaf{conformance.NewMemory(conformance.MemoryConfig{})},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					core.NewOutbox(dialect, core.OutboxConfig{}).Run(ctx)
				}()
				synctest.Wait()
				select {
				case <-ended:
					t.Error("Run ended by itself")
				default:
				}
				stop()
				<-ended
			})
		})
	}
}

// wrapped is a dialect around another one, as those of metrics and traces are.
type wrapped struct{ core.Dialect }

func (w wrapped) Unwrap() core.Dialect { return w.Dialect }

func TestAWrapperHidesNoAbility(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.PollInterval = time.Hour
		relay, err := core.NewRelay(wrapped{wrapped{b.memory}}, b.recorder, b.config)
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		done := make(chan error)
		go func() { done <- relay.Run(ctx) }()
		if n := b.promptly(b.elsewhere()); n != 10 {
			b.Errorf("through a wrapper %d of ten messages are delivered at once", n)
		}
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
		outbox := core.NewOutbox(wrapped{b.memory}, core.OutboxConfig{LockKeys: true})
		tx, err := b.memory.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if err := outbox.Enqueue(b.Context(), tx, core.Message{Topic: "t", Key: "k"}); err != nil {
			b.Errorf("Enqueue with LockKeys through a wrapper: %v", err)
		}
		if err := tx.Rollback(); err != nil {
			b.Error(err)
		}
	})
}

func TestTheBrokerIsToldWhenAMessageWasEnqueued(t *testing.T) {
	onBench(t, func(b *bench) {
		enqueued := time.Now()
		b.enqueue("a1")
		time.Sleep(time.Hour) // the bubble's clock
		var took []time.Duration
		b.config.Hooks.Published = func(call core.PublishReport) {
			for i, m := range call.Messages {
				if core.ClassOf(call.Results[i]) == "stored" {
					took = append(took, time.Since(m.EnqueuedAt))
				}
			}
		}
		b.during(func() { time.Sleep(time.Second) })
		if stored := b.recorder.Stored(); len(stored) != 1 || !stored[0].Message.EnqueuedAt.Equal(enqueued) {
			b.Errorf("stored: got %+v, want a1 with the EnqueuedAt %v", stored, enqueued)
		}
		if len(took) != 1 || took[0] < time.Hour || took[0] > time.Hour+time.Second {
			b.Errorf("the hook says that it took %v, want one hour", took)
		}
	})
}
