package core_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// Terms come and go, because no renewal is answered, and each leaves a call behind that never returns. Each holds memory,
// whatever term it is of.
func TestCallsThatNeverReturnAreBoundedAcrossTerms(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes, b.config.LeaseTTL = quiet, 1, time.Second
		b.enqueue("a1")
		terms := 0
		b.config.Hooks.Leading = func(leading bool, _ int64) {
			if leading {
				terms++
			}
		}
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "RenewLease" {
				f.Refuse = errors.New("not now")
			}
			return f
		})
		release := make(chan struct{})
		defer close(release)
		var calls atomic.Int64
		relay := b.relayTo(func(context.Context, []core.Message) error {
			calls.Add(1)
			<-release
			return errors.New("late")
		})
		ctx, stop := context.WithTimeout(b.Context(), time.Hour)
		defer stop()
		const bound = 1 + 16 // lanes, and calls beside them
		if err := relay.Run(ctx); !errors.Is(err, core.ErrAbandoned) || calls.Load() != bound+1 {
			b.Errorf("Run: got %v after %d calls, want ErrAbandoned after %d", err, calls.Load(), bound+1)
		}
		if terms < 10 {
			b.Errorf("there were %d terms: the test shows nothing", terms)
		}
		if err := relay.Run(ctx); !errors.Is(err, core.ErrAbandoned) {
			b.Errorf("Run again: got %v, want ErrAbandoned, since nothing has returned", err)
		}
	})
}

// A call that was left behind and returns after all counts no longer.
func TestACallThatReturnsLateIsNotCountedForEver(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes, b.config.LeaseTTL = quiet, 1, time.Second
		b.enqueue("a1")
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "RenewLease" {
				f.Refuse = errors.New("not now")
			}
			return f
		})
		var calls atomic.Int64
		relay := b.relayTo(func(context.Context, []core.Message) error {
			calls.Add(1)
			time.Sleep(5*time.Second + 10*time.Microsecond) // the bubble's clock
			return errors.New("late")
		})
		ctx, stop := context.WithTimeout(b.Context(), 10*time.Minute)
		defer stop()
		if err := relay.Run(ctx); errors.Is(err, core.ErrAbandoned) || calls.Load() < 50 { // a DrainError, where a call is under way at the end
			b.Errorf("Run: got %v after %d calls, want no ErrAbandoned after many", err, calls.Load())
		}
		time.Sleep(time.Minute) // the bubble's clock
	})
}

// panickingTerms panics when its first terms begin.
type panickingTerms struct {
	core.Broker
	panics int
}

func (p *panickingTerms) ForTerm(context.Context, core.Term) (core.Broker, error) {
	if p.panics > 0 {
		p.panics--
		panic("adapter bug")
	}
	return p.Broker, nil
}

func TestAPanicAtATermsBeginningIsContained(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		b.enqueue("a1")
		relay, err := core.NewRelay(b.memory, &panickingTerms{b.recorder, 2}, b.config)
		if err != nil {
			b.Fatal(err)
		}
		b.runWith(relay, func() {
			time.Sleep(500 * time.Millisecond) // the bubble's clock
			if lease := b.memory.Contents().Lease; lease.Holder != "" {
				b.Errorf("the lease is still %q's after the first panic", lease.Holder)
			}
			time.Sleep(10 * time.Second) // the bubble's clock
			b.wantStored("a1")
		})
	})
}
