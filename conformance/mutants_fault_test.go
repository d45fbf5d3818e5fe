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
	}}, caught{"database-outage": "the database is away, and an acknowledgement succeeded"}},
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
	}}, caught{"database-cut": "its connection was broken, and a fetch over it succeeded: the session has reconnected"}},
	"forgets everything when it is away": {alteredDialect{session: altered{
		acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
			err := s.Acknowledge(ctx, refs)
			if errors.Is(err, ErrBroken) {
				s.memory.Restart(Restart{Lose: 1})
			}
			return err
		},
	}}, caught{"database-outage": `after the outage the outbox holds [], want ["a" "b" "c"]`}},
}
