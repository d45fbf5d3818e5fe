package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// where is the condition for the dead letters that match filter, and its arguments.
func where(filter core.DeadFilter) (condition string, args []any) {
	condition = ` WHERE dropped_at IS NULL`
	if filter.Dropped {
		condition = ` WHERE dropped_at IS NOT NULL`
	}
	for _, field := range []struct{ test, value string }{
		{"id = ?", filter.ID}, {"topic = ?", filter.Topic}, {"key = ?", filter.Key}, {"instr(cause, ?) > 0", filter.CauseContains},
	} {
		if field.value != "" {
			condition, args = condition+` AND `+field.test, append(args, field.value)
		}
	}
	if filter.OlderThan > 0 {
		condition, args = condition+` AND buried_at <= {now} - ?`, append(args, ceilMilliseconds(filter.OlderThan))
	}
	return condition, args
}

type deadRow struct {
	Position   int64  `db:"position"`
	ID         string `db:"id"`
	Topic      string `db:"topic"`
	Key        string `db:"key"`
	Headers    []byte `db:"headers"`
	Payload    []byte `db:"payload"`
	CreatedAt  int64  `db:"created_at"`
	Attempts   int    `db:"attempts"`
	Cause      string `db:"cause"`
	BuriedAt   int64  `db:"buried_at"`
	DropReason string `db:"drop_reason"`
}

func (r deadRow) deadLetter() core.DeadLetter {
	return core.DeadLetter{
		Record: core.Record{
			Position: r.Position,
			Message:  core.Message{ID: r.ID, Topic: r.Topic, Key: r.Key, Headers: headers.OfRow(r.Headers), Payload: r.Payload, EnqueuedAt: time.UnixMilli(r.CreatedAt)},
			Attempts: r.Attempts,
		},
		Cause: r.Cause, BuriedAt: time.UnixMilli(r.BuriedAt), DropReason: r.DropReason,
	}
}

// ListDead implements [core.OperatorStore].
func (s *session) ListDead(ctx context.Context, filter core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	condition, args := where(filter)
	var letters []core.DeadLetter
	err := s.query(ctx, `SELECT position, id, topic, key, headers, payload, created_at, attempts, cause, buried_at, drop_reason
FROM {dead}`+condition+` AND (position, id) > (?, ?) ORDER BY position, id LIMIT ?`, append(args, after.Position, after.ID, limit),
		func(rows *sqlx.Rows) (bool, error) {
			var row deadRow
			if err := rows.StructScan(&row); err != nil {
				return false, err
			}
			letters = append(letters, row.deadLetter())
			return true, nil
		})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// CountDead implements [core.OperatorStore].
func (s *session) CountDead(ctx context.Context, filter core.DeadFilter) (n int64, err error) {
	condition, args := where(filter)
	if err := s.get(ctx, &n, `SELECT count(*) FROM {dead}`+condition, args...); err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return n, nil
}

// deadRef is a dead letter that an action is for.
type deadRef struct {
	Position int64
	ID       string
	Topic    string
	Key      string
}

// act picks the dead letters d that match filter and where also holds, does then with each, removes the blocks of those it did something with where
// unblocks holds, and tells the readers.
func (s *session) act(ctx context.Context, what string, filter core.DeadFilter, limit int, also, unblocks string, then func(w writing, r deadRef) (bool, error)) (n int, err error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	err = s.write(ctx, what, func(w writing) error {
		n = 0
		condition, args := where(filter)
		var picked []deadRef
		err := w.tx.SelectContext(ctx, &picked, s.sql(`SELECT position, id, topic, key FROM {dead} AS d`+condition+` AND `+also+` ORDER BY position, id LIMIT ?`),
			append(args, limit)...)
		if err != nil {
			return err
		}
		for _, r := range picked {
			done, err := then(w, r)
			if err != nil {
				return err
			}
			if !done {
				continue
			}
			n++
			if _, err := w.exec(`DELETE FROM {blocked} AS b WHERE topic = ? AND key = ? AND position = ? AND `+unblocks, r.Topic, r.Key, r.Position); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
		return w.bump()
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// isFree is true of a dead letter d whose position is not taken by another event, of a time before a restore.
const isFree = `NOT EXISTS (SELECT 1 FROM {outbox} AS o WHERE o.position = d.position)`

// RetryDead implements [core.OperatorStore]. Of two dead letters of one position the second stays.
func (s *session) RetryDead(ctx context.Context, filter core.DeadFilter, limit int) (int, error) {
	return s.act(ctx, "retry dead letters", filter, limit, isFree, `TRUE`, func(w writing, r deadRef) (bool, error) {
		back, err := w.exec(`INSERT INTO {outbox} (position, id, topic, key, headers, payload, created_at)
SELECT position, id, topic, key, headers, payload, created_at FROM {dead} WHERE position = ? AND id = ? ON CONFLICT (position) DO NOTHING`,
			r.Position, r.ID)
		if err != nil || back == 0 {
			return false, err
		}
		_, err = w.exec(`DELETE FROM {dead} WHERE position = ? AND id = ?`, r.Position, r.ID)
		return true, err
	})
}

// noTwinWaits says of a block b that no dead letter needs it: after a restore two can have one position, and then have one block.
const noTwinWaits = `NOT EXISTS (SELECT 1 FROM {dead} AS d
  WHERE d.position = b.position AND d.topic = b.topic AND d.key = b.key AND d.dropped_at IS NULL)`

// DropDead implements [core.OperatorStore].
func (s *session) DropDead(ctx context.Context, filter core.DeadFilter, reason string, limit int) (int, error) {
	return s.act(ctx, "drop dead letters", filter, limit, `TRUE`, noTwinWaits, func(w writing, r deadRef) (bool, error) {
		_, err := w.exec(`UPDATE {dead} SET dropped_at = {now}, drop_reason = ? WHERE position = ? AND id = ?`,
			errtext.Clean(reason), r.Position, r.ID)
		return true, err
	})
}
