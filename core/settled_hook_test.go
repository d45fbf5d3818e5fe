package core_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// A careful relay settles a message together with the mark of the next one. Where it finds only then that its lease is lost, the mark is not
// written, and the rest is: the hooks tell of that.
func TestWhatIsSettledBesideALostMarkIsTold(t *testing.T) {
	for want, answer := range map[string]error{"acknowledged": nil, "failed": errors.New("refused"), "buried": core.ErrPermanent} {
		t.Run(want, func(t *testing.T) {
			onScene(t, func(s *scene) {
				s.enqueue("b3")
				for range 3 {
					s.run(time.Minute)
				}
				ctx, stop := context.WithCancel(s.Context())
				told := ""
				s.config.DrainTimeout = time.Minute
				s.config.Hooks.Acknowledged = func(refs []core.Ref) { told += "acknowledged " + refs[0].ID }
				s.config.Hooks.Failed = func(f core.Failure) { told += "failed " + f.ID }
				s.config.Hooks.Buried = func(b core.Burial) { told += "buried " + b.ID }
				relay := s.relayTo(func(context.Context, []core.Message) error {
					time.Sleep(100 * time.Millisecond) // the bubble's clock: the lease is not looked at now
					other, err := s.memory.Open(s.Context())
					if err != nil {
						s.Error(err)
					}
					defer other.Close()
					if err := second(other.TakeLease(s.Context(), s.memory.Contents().Lease, "other", time.Hour)); err != nil {
						s.Error(err)
					}
					stop()
					return &core.BatchError{Results: []error{answer}}
				})
				if err := relay.Run(ctx); err != nil {
					s.Errorf("Run: %v, want nil: nothing is left", err)
				}
				if told != want+" b3" {
					s.Errorf("told %q, want %q", told, want+" b3")
				}
			})
		})
	}
}
