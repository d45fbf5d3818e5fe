package conformance

import (
	"context"
	"errors"

	"github.com/lockstep-go/lockstep/core"
)

var faultMutants = map[string]mutant{
	"takes a lost connection for an acknowledgement": {alteredDialect{session: altered{
		acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
			if err := s.Acknowledge(ctx, refs); !errors.Is(err, ErrBroken) {
				return err
			}
			return nil
		},
	}}, []string{"database-outage"}},
	"reconnects behind the engine's back": {alteredDialect{session: altered{
		fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			if !errors.Is(err, ErrBroken) {
				return result, err
			}
			again, err := s.memory.Open(ctx)
			if err != nil {
				return result, err
			}
			defer again.Close()
			return again.Fetch(ctx, r)
		},
	}}, []string{"database-cut"}},
	"forgets everything when it is away": {alteredDialect{session: altered{
		acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
			err := s.Acknowledge(ctx, refs)
			if errors.Is(err, ErrBroken) {
				s.memory.Restart(Restart{Lose: 1})
			}
			return err
		},
	}}, []string{"database-outage"}},
}
