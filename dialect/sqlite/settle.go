package sqlite

import (
	"context"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
)

// promoteTimeout bounds the transaction, because whoever takes the lease over waits for it.
const promoteTimeout = 800 * time.Millisecond

// Acknowledge implements [core.Writer].
func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	return s.write(ctx, "delete events", func(w writing) error {
		if err := w.archive(refs); err != nil {
			return err
		}
		return w.named(refs, `DELETE FROM {outbox} WHERE position IN ({named})`)
	})
}

// Fail implements [core.Writer].
func (s *session) Fail(ctx context.Context, failures []core.Failure) error {
	if len(failures) == 0 {
		return nil
	}
	return s.write(ctx, "note failures", func(w writing) error {
		return w.each(len(failures), `UPDATE {outbox} SET attempts = ?, retry_at = {now} + ?, last_error = ?
WHERE position = ? AND id = ? AND attempts = ?`, func(i int) []any {
			f := failures[i]
			return []any{f.Attempts, ceilMilliseconds(f.RetryIn), errtext.Clean(f.Cause), f.Position, f.ID, f.Attempts - 1}
		})
	})
}

func ceilMilliseconds(d time.Duration) int64 {
	return (d + time.Millisecond - 1).Milliseconds()
}

// Bury implements [core.Writer].
func (s *session) Bury(ctx context.Context, burials []core.Burial) error {
	if len(burials) == 0 {
		return nil
	}
	return s.write(ctx, "bury events", func(w writing) error {
		// A dead letter of the same name can only come from a restore: the newer one takes its place.
		err := w.each(len(burials), `INSERT OR REPLACE INTO {dead} (position, id, topic, key, headers, payload, created_at, attempts, cause)
SELECT position, id, topic, key, headers, payload, created_at, ?, ? FROM {outbox} WHERE position = ? AND id = ? AND attempts = ?`,
			func(i int) []any {
				b := burials[i]
				return []any{b.Attempts, errtext.Clean(b.Cause), b.Position, b.ID, b.Attempts - 1}
			})
		if err != nil {
			return err
		}
		err = w.each(len(burials), `INSERT INTO {blocked} (topic, key, position)
SELECT topic, key, position FROM {outbox} WHERE position = ? AND id = ? AND attempts = ? AND key <> '' AND NOT ? ON CONFLICT DO NOTHING`,
			func(i int) []any {
				b := burials[i]
				return []any{b.Position, b.ID, b.Attempts - 1, b.Skip}
			})
		if err != nil {
			return err
		}
		return w.each(len(burials), `DELETE FROM {outbox} WHERE position = ? AND id = ? AND attempts = ?`,
			func(i int) []any { return []any{burials[i].Position, burials[i].ID, burials[i].Attempts - 1} })
	})
}

// Promote implements [core.Writer]. It moves fewer events where those that are due take too long.
func (s *session) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	begun := time.Now()
	p, err := s.promote(ctx, epoch, s.dialect.promotions.Of(limit))
	s.dialect.promotions.Took(p.Moved, time.Since(begun), promoteTimeout, err)
	return p, err
}

func (s *session) promote(ctx context.Context, epoch int64, limit int) (p core.Promotion, err error) {
	ctx, cancel := context.WithTimeout(ctx, promoteTimeout)
	defer cancel()
	err = s.write(ctx, "promote delayed events", func(w writing) error {
		p = core.Promotion{}
		var at struct{ Epoch, Now int64 }
		if err := w.tx.GetContext(ctx, &at, s.sql(`SELECT epoch, {now} AS now FROM {lease}`)); err != nil {
			return err
		}
		if at.Epoch != epoch {
			p.Fenced = true
			return nil
		}
		moved, err := w.exec(`INSERT INTO {outbox} (id, topic, key, headers, payload, created_at)
SELECT id, topic, key, headers, payload, not_before FROM {delayed} WHERE not_before <= ? ORDER BY not_before, position LIMIT ?`,
			at.Now, limit)
		if err != nil || moved == 0 {
			return err
		}
		p.Moved = int(moved)
		_, err = w.exec(`DELETE FROM {delayed} WHERE position IN (
  SELECT position FROM {delayed} WHERE not_before <= ? ORDER BY not_before, position LIMIT ?)`, at.Now, limit)
		if err != nil {
			return err
		}
		return w.bump()
	})
	if err != nil {
		return core.Promotion{}, err
	}
	return p, nil
}
