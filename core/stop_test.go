package core_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// A stop while the lease is being taken leaves it free, whether or not the database took the request in.
func TestAStopWhileTheLeaseIsTakenLeavesItFree(t *testing.T) {
	for name, fault := range map[string]conformance.Fault{
		"the answer is slow":  {After: 500 * time.Millisecond},
		"the request is slow": {Before: 500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			onBench(t, func(b *bench) {
				b.config.Logger = quiet
				tries := 0
				b.memory.Inject(func(c conformance.Call) conformance.Fault {
					if c.Op == "TakeLease" {
						tries++
						return fault
					}
					return conformance.Fault{}
				})
				ctx, stop := context.WithTimeout(b.Context(), 300*time.Millisecond)
				defer stop()
				if err := b.relay().Run(ctx); err != nil {
					b.Errorf("Run: got %v, want nil", err)
				}
				if lease := b.memory.Contents().Lease; tries != 1 || lease.Holder != "" || lease.Unclean != 0 {
					b.Errorf("after %d tries the lease is %+v, want one try, and a lease that nobody holds", tries, lease)
				}
			})
		})
	}
}

// What is on its way to the database when the time is over is counted with the rest.
func TestADrainCountsWhatIsBeingWritten(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.Lanes, b.config.DrainTimeout = quiet, 1, time.Second
		b.fate = func(m core.Message) error {
			switch m.ID {
			case "d1":
				return errors.New("refused")
			case "e1":
				return core.ErrPermanent
			}
			return nil
		}
		b.enqueue("a1 b1 c1 d1 e1")
		ctx, stop := context.WithCancel(b.Context())
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Acknowledge" {
				stop()
				f.Before = time.Minute
			}
			return f
		})
		err := b.relay().Run(ctx)
		var drain *core.DrainError
		if !errors.As(err, &drain) || *drain != (core.DrainError{Unacknowledged: 3, Unsettled: 2}) {
			b.Errorf("Run: got %v, want a *DrainError with three messages and two failures", err)
		}
	})
}

// A stop that only a read outlasts has left nothing behind, and says so.
func TestADrainThatOnlyAReadOutlastsIsWhole(t *testing.T) {
	onBench(t, func(b *bench) {
		b.config.Logger, b.config.DrainTimeout = quiet, time.Second
		ctx, stop := context.WithCancel(b.Context())
		b.memory.Inject(func(c conformance.Call) (f conformance.Fault) {
			if c.Op == "Fetch" {
				stop()
				f.Before = 5 * time.Second
			}
			return f
		})
		if err := b.relay().Run(ctx); err != nil {
			b.Errorf("Run: got %v, want nil", err)
		}
	})
}
