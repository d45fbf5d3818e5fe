package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ReadLease implements [core.LeaseStore].
func (s *session) ReadLease(ctx context.Context) (core.Lease, error) {
	var l struct {
		core.Lease
		SuspectPosition int64  `db:"suspect_position"`
		SuspectID       string `db:"suspect_id"`
	}
	err := s.get(ctx, &l, `SELECT c.outbox, l.holder, l.epoch, l.renewals, l.holder = '' OR l.expires_at <= {now} AS expired, l.unclean,
  l.suspect_position, l.suspect_id
FROM {lease} AS l, {control} AS c`)
	if err != nil {
		return core.Lease{}, fmt.Errorf("read the lease: %w", err)
	}
	l.Suspect = core.Ref{Position: l.SuspectPosition, ID: l.SuspectID}
	return l.Lease, nil
}

// TakeLease implements [core.LeaseStore].
func (s *session) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	return s.updateLease(ctx, "take the lease", `UPDATE {lease} SET unclean = unclean + (holder <> ''), holder = ?, epoch = epoch + 1,
  renewals = renewals + 1, expires_at = {now} + ? WHERE epoch = ? AND holder = ? AND renewals = ?`,
		holder, ttl.Milliseconds(), seen.Epoch, seen.Holder, seen.Renewals)
}

// RenewLease implements [core.LeaseStore].
func (s *session) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	return s.updateLease(ctx, "renew the lease", `UPDATE {lease} SET renewals = renewals + 1, expires_at = {now} + ?,
  unclean = CASE WHEN ? THEN 0 ELSE unclean END WHERE holder = ? AND epoch = ?`, ttl.Milliseconds(), progress, holder, epoch)
}

// ReleaseLease implements [core.LeaseStore].
func (s *session) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	_, err := s.updateLease(ctx, "release the lease", `UPDATE {lease} SET holder = '', expires_at = {now}, unclean = 0 WHERE holder = ? AND epoch = ?`,
		holder, epoch)
	return err
}

// MarkSuspect implements [core.LeaseStore].
func (s *session) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	return s.updateLease(ctx, "mark a suspect", `UPDATE {lease} SET suspect_position = ?, suspect_id = ? WHERE holder = ? AND epoch = ?`,
		suspect.Position, suspect.ID, holder, epoch)
}

func (s *session) updateLease(ctx context.Context, what, statement string, args ...any) (updated bool, err error) {
	err = s.write(ctx, what, func(w writing) error {
		n, err := w.exec(statement, args...)
		updated = n > 0
		return err
	})
	return updated && err == nil, err
}
