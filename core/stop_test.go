package core_test

import (
	"context"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
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
