package conformance

import (
	"context"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

var outageChecks = []check[DialectFixture]{
	{"database-outage", "while the database is away each call of a session, and Open, is an error; then sessions are opened again and everything is as it was", checkDatabaseOutage},
}

var cutChecks = []check[DialectFixture]{
	{"database-cut", "a session never reconnects by itself: after its connection broke each call is an error, and another session works", checkDatabaseCut},
}

func checkDatabaseOutage(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(3)...)
	if err != nil {
		return err
	}
	s, err := f.Dialect.Open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	heal, err := harm("begin the outage", f.Outage)
	if err != nil {
		return err
	}
	defer heal()
	away, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	if err := s.Acknowledge(away, []core.Ref{records[0].Ref()}); err == nil {
		return fmt.Errorf("the database is away, and an acknowledgement succeeded")
	}
	if again, err := f.Dialect.Open(away); err == nil {
		_, err = again.RenewLease(away, "owner", 1, waitLimit, false)
		again.Close()
		if err == nil {
			return fmt.Errorf("the database is away, and a new session renewed a lease")
		}
	}
	heal()
	return eventually(ctx, "a session after the outage", func() (bool, error) {
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		defer cancel()
		now, err := f.all(limited)
		if err != nil {
			return false, nil //nolint:nilerr // it is tried again, as a relay does
		}
		// The acknowledgement may have arrived: its outcome is unknown.
		got := ids(now)
		if len(got) == 2 {
			return true, same("after the outage the outbox holds", got, []string{"b", "c"})
		}
		return true, same("after the outage the outbox holds", got, []string{"a", "b", "c"})
	})
}

func checkDatabaseCut(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(2)...)
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		if _, err := s.Fetch(ctx, everything); err != nil {
			return err
		}
		f.Cut()
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		defer cancel()
		for range 2 {
			if _, err := s.Fetch(limited, everything); err == nil {
				return fmt.Errorf("its connection was broken, and a fetch over it succeeded: the session has reconnected")
			}
		}
		return f.session(ctx, func(s core.Session) error {
			if err := s.Acknowledge(ctx, []core.Ref{records[0].Ref()}); err != nil {
				return fmt.Errorf("another session, after a connection broke: %w", err)
			}
			return f.expect(ctx, "b")
		})
	})
}
