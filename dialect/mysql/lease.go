package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ReadLease implements [core.LeaseStore].
func (s *session) ReadLease(ctx context.Context) (core.Lease, error) {
	var l core.Lease
	err := s.readRow(ctx, s.sql(`SELECT c.outbox, l.holder, l.epoch, l.renewals, l.holder = '' OR l.expires_at <= UTC_TIMESTAMP(6), l.unclean,
  l.suspect_position, l.suspect_id
FROM {lease} AS l, {control} AS c`), &l.Outbox, &l.Holder, &l.Epoch, &l.Renewals, &l.Expired, &l.Unclean,
		&l.Suspect.Position, &l.Suspect.ID)
	if err != nil {
		return core.Lease{}, fmt.Errorf("read the lease: %w", err)
	}
	return l, nil
}

// TakeLease implements [core.LeaseStore].
func (s *session) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	took, err := s.updateLease(ctx, `unclean = unclean + (holder <> ''), holder = `+text(holder)+`, epoch = epoch + 1,
  renewals = renewals + 1, expires_at = `+later(ttl),
		`holder = `+text(seen.Holder)+` AND epoch = `+integer(seen.Epoch)+` AND renewals = `+integer(seen.Renewals))
	if err != nil {
		return false, fmt.Errorf("take the lease: %w", err)
	}
	return took, nil
}

// RenewLease implements [core.LeaseStore].
func (s *session) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	reset := ``
	if progress {
		reset = `, unclean = 0`
	}
	renewed, err := s.updateLease(ctx, `renewals = renewals + 1, expires_at = `+later(ttl)+reset, ownedBy(holder, epoch))
	if err != nil {
		return false, fmt.Errorf("renew the lease: %w", err)
	}
	return renewed, nil
}

// ReleaseLease implements [core.LeaseStore].
func (s *session) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	_, err := s.updateLease(ctx, `holder = '', expires_at = UTC_TIMESTAMP(6), unclean = 0`, ownedBy(holder, epoch))
	if err != nil {
		return fmt.Errorf("release the lease: %w", err)
	}
	return nil
}

// MarkSuspect implements [core.LeaseStore].
func (s *session) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	marked, err := s.updateLease(ctx, `suspect_position = `+integer(suspect.Position)+`, suspect_id = `+text(suspect.ID), ownedBy(holder, epoch))
	if err != nil {
		return false, fmt.Errorf("mark a suspect: %w", err)
	}
	return marked, nil
}

func ownedBy(holder string, epoch int64) string {
	return `holder = ` + text(holder) + ` AND epoch = ` + integer(epoch)
}

// updateLease reports whether the lease is as condition says, and was changed. Whether it is, is asked under the row's lock:
// a count of updated rows leaves out, or not, those that an update finds as they are to be.
func (s *session) updateLease(ctx context.Context, change, condition string) (bool, error) {
	n := 0
	err := s.write(ctx, s.sql(`SELECT COUNT(*) INTO @n FROM {lease} WHERE one = 1 AND `)+condition+` FOR UPDATE; `+
		s.sql(`UPDATE {lease} SET `)+change+` WHERE one = 1 AND @n > 0`, "@n", &n)
	return n > 0, err
}
