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

// A careful relay that is stopped in an outage has killed nobody: its calls return when they are cut, and the next relay counts
// nothing for them.
func TestACarefulStopCountsNothing(t *testing.T) {
	for name, broker := range map[string]brokerFunc{
		"an outage that answers nothing": func(ctx context.Context, _ []core.Message) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"fenced": func(context.Context, []core.Message) error {
			time.Sleep(time.Millisecond) // the bubble's clock
			return core.ErrFenced
		},
	} {
		t.Run(name, func(t *testing.T) {
			onScene(t, func(s *scene) {
				s.enqueue("a1 b3")
				for range 3 {
					s.run(time.Minute)
				}
				s.config.DrainTimeout = 20 * time.Second
				s.config.Hooks.Failed = func(f core.Failure) { s.Errorf("counted: %+v", f) }
				s.config.Hooks.Buried = func(f core.Burial) { s.Errorf("buried: %+v", f) }
				var published atomic.Int64
				for range 4 {
					relay, err := core.NewRelay(s.memory, brokerFunc(func(ctx context.Context, msgs []core.Message) error {
						published.Add(1)
						return broker(ctx, msgs)
					}), s.config)
					if err != nil {
						s.Fatal(err)
					}
					ctx, stop := context.WithTimeout(s.Context(), 40*time.Second)
					_ = relay.Run(ctx) // a DrainError, or none
					stop()
					if lease := s.memory.Contents().Lease; lease.Holder != "" || lease.Suspect != (core.Ref{}) {
						s.Errorf("the lease is %+v, want no holder and no mark", lease)
					}
				}
				if published.Load() < 4 {
					s.Errorf("%d calls: the test shows nothing", published.Load())
				}
			})
		})
	}
}

// A call that has not returned at a careful relay's end may still kill: its mark stays.
func TestACarefulStopLeavesTheMarkOfACallThatGoesOn(t *testing.T) {
	onScene(t, func(s *scene) {
		s.enqueue("b3")
		for range 3 {
			s.run(time.Minute)
		}
		relay, err := core.NewRelay(s.memory, brokerFunc(func(context.Context, []core.Message) error {
			time.Sleep(time.Minute) // the bubble's clock
			return nil
		}), s.config)
		if err != nil {
			s.Fatal(err)
		}
		ctx, stop := context.WithTimeout(s.Context(), 10*time.Second)
		defer stop()
		var drain *core.DrainError
		if err := relay.Run(ctx); !errors.As(err, &drain) || drain.Publishing != 1 {
			s.Errorf("Run: got %v, want a *DrainError with one call", err)
		}
		if lease := s.memory.Contents().Lease; lease.Holder != "" || lease.Suspect.ID != "b3" {
			s.Errorf("the lease is %+v, want no holder, and b3's mark", lease)
		}
		time.Sleep(time.Minute) // the bubble's clock: the call returns
	})
}

// A relay that is stopped says what it leaves behind, too, when its term ends before its drain.
func TestADrainThatTheTermEndsSaysWhatIsLeft(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger = quiet
		var away atomic.Bool
		b.memory.Inject(func(conformance.Call) (f conformance.Fault) {
			f.Before = time.Millisecond
			if away.Load() {
				f.Refuse = errors.New("away")
			}
			return f
		})
		b.enqueue("a1 b1 c1")
		ctx, stop := context.WithCancel(b.Context())
		relay := b.relayTo(func(ctx context.Context, msgs []core.Message) error {
			away.Store(true)
			stop()
			return b.recorder.Publish(ctx, msgs)
		})
		err := relay.Run(ctx)
		var drain *core.DrainError
		if !errors.As(err, &drain) || *drain != (core.DrainError{Unacknowledged: 3}) {
			b.Errorf("Run: got %v, want a *DrainError with three messages", err)
		}
		b.wantLeft("a1 b1 c1")
	})
}

// The lease is another's while a stopped relay drains: what the broker then confirms is acknowledged all the same, and what it
// does not confirm is told.
func TestADrainWithoutItsLeaseAcknowledgesWhatIsConfirmed(t *testing.T) {
	for name, test := range map[string]struct {
		answer error
		want   *core.DrainError
		left   string
	}{
		"confirmed": {},
		"uncertain": {core.ErrUncertain, &core.DrainError{Publishing: 1}, "a1"},
		"refused":   {errors.New("refused"), &core.DrainError{Unsettled: 1}, "a1"},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger, b.config.LeaseTTL = quiet, 6*time.Second
				b.enqueue("a1")
				ctx, stop := context.WithCancel(b.Context())
				relay := b.relayTo(func(ctx context.Context, _ []core.Message) error {
					s, err := b.memory.Open(b.Context())
					if err != nil {
						b.Error(err)
					}
					defer s.Close()
					if err := second(s.TakeLease(b.Context(), b.memory.Contents().Lease, "other", time.Hour)); err != nil {
						b.Error(err)
					}
					stop()
					<-ctx.Done()
					return &core.BatchError{Results: []error{test.answer}}
				})
				err := relay.Run(ctx)
				var drain *core.DrainError
				if got := errors.As(err, &drain); got != (test.want != nil) || got && *drain != *test.want {
					b.Errorf("Run: got %v, want %v", err, test.want)
				}
				b.wantLeft(test.left)
			})
		})
	}
}

// What a call has stored of which one message was fenced is acknowledged before the term ends.
func TestAFencedCallsConfirmationsCount(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes = quiet, 1
		fenced := 0
		b.fate = func(m core.Message) error {
			if m.ID == "b1" && fenced < 3 {
				fenced++
				return core.ErrFenced
			}
			return nil
		}
		b.enqueue("a1 b1 c1")
		b.during(func() { time.Sleep(time.Minute) }) // the bubble's clock
		if fenced != 3 {
			b.Errorf("fenced %d times, want 3", fenced)
		}
		b.wantStored("a1 c1 b1")
		b.wantLeft("")
	})
}
