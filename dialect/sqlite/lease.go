package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ReadLease implements [core.LeaseStore].
func (s *session) ReadLease(ctx context.Context) (core.Lease, error) {
	var l core.Lease
	err := s.get(ctx, &l, `SELECT c.outbox, l.holder, l.epoch, l.renewals, l.holder = '' OR l.expires_at <= {now} AS expired
FROM {lease} AS l, {control} AS c`)
	if err != nil {
		return core.Lease{}, fmt.Errorf("read the lease: %w", err)
	}
	return l, nil
}

// TakeLease implements [core.LeaseStore].
func (s *session) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	return s.updateLease(ctx, "take the lease", `UPDATE {lease} SET holder = ?, epoch = epoch + 1, renewals = renewals + 1,
  expires_at = {now} + ? WHERE epoch = ? AND holder = ? AND renewals = ?`,
		holder, ttl.Milliseconds(), seen.Epoch, seen.Holder, seen.Renewals)
}

// RenewLease implements [core.LeaseStore].
func (s *session) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration) (bool, error) {
	return s.updateLease(ctx, "renew the lease", `UPDATE {lease} SET renewals = renewals + 1, expires_at = {now} + ?
WHERE holder = ? AND epoch = ?`, ttl.Milliseconds(), holder, epoch)
}

// ReleaseLease implements [core.LeaseStore].
func (s *session) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	_, err := s.updateLease(ctx, "release the lease", `UPDATE {lease} SET holder = '', expires_at = {now} WHERE holder = ? AND epoch = ?`,
		holder, epoch)
	return err
}

func (s *session) updateLease(ctx context.Context, what, statement string, args ...any) (updated bool, err error) {
	err = s.write(ctx, what, func(w writing) error {
		n, err := w.exec(statement, args...)
		updated = n > 0
		return err
	})
	return updated && err == nil, err
}
