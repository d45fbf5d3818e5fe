package dialecttest

import (
	"context"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// SessionCalls is every method of a session that talks to the server. Each succeeds on an outbox without events.
var SessionCalls = map[string]func(ctx context.Context, s core.Session) error{
	"Fetch": func(ctx context.Context, s core.Session) error {
		_, err := s.Fetch(ctx, core.FetchRequest{Limit: 10, MaxBytes: 1000})
		return err
	},
	"ResolveGaps": func(ctx context.Context, s core.Session) error { return s.ResolveGaps(ctx, make([]core.Gap, 1)) },
	"Acknowledge": func(ctx context.Context, s core.Session) error { return s.Acknowledge(ctx, make([]core.Ref, 1)) },
	"Fail":        func(ctx context.Context, s core.Session) error { return s.Fail(ctx, make([]core.Failure, 1)) },
	"Bury":        func(ctx context.Context, s core.Session) error { return s.Bury(ctx, make([]core.Burial, 1)) },
	"Promote": func(ctx context.Context, s core.Session) error {
		_, err := s.Promote(ctx, 0, 10)
		return err
	},
	"ReadLease": func(ctx context.Context, s core.Session) error {
		_, err := s.ReadLease(ctx)
		return err
	},
	"TakeLease": func(ctx context.Context, s core.Session) error {
		_, err := s.TakeLease(ctx, core.Lease{Epoch: -1}, "me", time.Second)
		return err
	},
	"RenewLease": func(ctx context.Context, s core.Session) error {
		_, err := s.RenewLease(ctx, "me", -1, time.Second, false)
		return err
	},
	"ReleaseLease": func(ctx context.Context, s core.Session) error { return s.ReleaseLease(ctx, "me", -1) },
	"ListDead": func(ctx context.Context, s core.Session) error {
		_, err := s.ListDead(ctx, core.DeadFilter{}, core.Ref{}, 10)
		return err
	},
	"CountDead": func(ctx context.Context, s core.Session) error {
		_, err := s.CountDead(ctx, core.DeadFilter{})
		return err
	},
	"RetryDead": func(ctx context.Context, s core.Session) error {
		_, err := s.RetryDead(ctx, core.DeadFilter{}, 10)
		return err
	},
	"DropDead": func(ctx context.Context, s core.Session) error {
		_, err := s.DropDead(ctx, core.DeadFilter{}, "reason", 10)
		return err
	},
	"Unblock": func(ctx context.Context, s core.Session) error {
		_, err := s.Unblock(ctx, "t", "k")
		return err
	},
	"ListBlocked": func(ctx context.Context, s core.Session) error {
		_, err := s.ListBlocked(ctx, "", "", 10)
		return err
	},
	"PauseTopic": func(ctx context.Context, s core.Session) error {
		_, err := s.PauseTopic(ctx, "paused")
		return err
	},
	"ResumeTopic": func(ctx context.Context, s core.Session) error {
		_, err := s.ResumeTopic(ctx, "paused")
		return err
	},
	"MarkSuspect": func(ctx context.Context, s core.Session) error {
		_, err := s.MarkSuspect(ctx, "me", -1, core.Ref{})
		return err
	},
	"ListArchived": func(ctx context.Context, s core.Session) error {
		_, err := s.(core.ArchiveStore).ListArchived(ctx, core.ArchiveFilter{}, core.Ref{}, 10)
		return err
	},
	"Replay": func(ctx context.Context, s core.Session) error {
		_, _, err := s.(core.ArchiveStore).Replay(ctx, core.ArchiveFilter{}, core.Ref{}, 10)
		return err
	},
	"Purge": func(ctx context.Context, s core.Session) error {
		_, err := s.(core.ArchiveStore).Purge(ctx, time.Hour, 10)
		return err
	},
	"Stats": func(ctx context.Context, s core.Session) error {
		_, err := s.Stats(ctx)
		return err
	},
}
