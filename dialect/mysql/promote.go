package mysql

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// A promotion begins with no further event after promoteTime, by the server's clock and whatever has become of the relay: whoever
// takes the lease over, or is an operator, waits for its locks. The event that it is at may wait for the lock for positions, and
// does for innodb_lock_wait_timeout at most. Half as many are tried next, where it has taken half of promoteTimeout, and after that a
// promotion that met the locks of others is not made again.
const (
	promoteTime    = 500 * time.Millisecond
	promoteTimeout = 800 * time.Millisecond
)

// What is due is found before anything is locked. It stays due: nobody else promotes while the epoch is the same.
const findDue = `SELECT l.epoch, COALESCE(d.position, 0) FROM {lease} AS l LEFT JOIN (
  SELECT position, not_before FROM {delayed} FORCE INDEX (due) WHERE not_before <= UTC_TIMESTAMP(6) ORDER BY not_before, position LIMIT {limit}
) AS d ON TRUE ORDER BY d.not_before, d.position`

// promote takes every lock that others may hold without waiting for it, but for the one for positions, which are handed out in the
// order of due. Each event has a statement of its own: an INSERT … SELECT holds that lock until it ends, where
// innodb_autoinc_lock_mode is 0 or 1, as MariaDB has it, and an application's INSERT would wait for all of them. @to is how many
// of them may be moved: one, and each time one more, until it is left as it is because time is over, or the clock was turned back. What
// was found due and has gone since, an application has removed.
func (s *session) promote(epoch int64, due []int64, within time.Duration) string {
	locked, delayed := s.at("{delayed}", "d", slices.Sorted(slices.Values(due))), s.at("{delayed}", "d", due)
	now := micros("UTC_TIMESTAMP(6)")
	move := s.sql("INSERT INTO {outbox} (id, topic, `key`, headers, payload, created_at)\n" +
		"SELECT id, topic, `key`, headers, payload, not_before FROM {delayed} WHERE @to = ")
	var moves strings.Builder
	for i, position := range due {
		if i > 0 {
			moves.WriteString(`SET @to = @to + (@to = ` + integer(i) + ` AND ` + now + ` BETWEEN @begun AND @begun + ` + integer(within.Microseconds()) + ");\n")
		}
		moves.WriteString(move + integer(i+1) + ` AND position = ` + integer(position) + ";\n")
	}
	return `SET @begun = ` + now + `;
` + s.sql(`SELECT COUNT(*) INTO @owned FROM {lease} WHERE one = 1 AND epoch = `) + integer(epoch) + s.sql(` FOR UPDATE NOWAIT;
SELECT COUNT(*) INTO @n FROM {control} WHERE one = 1 FOR UPDATE NOWAIT;
SELECT COUNT(*) INTO @n FROM `) + locked + ` WHERE @owned` + s.forUpdate("d") + ` NOWAIT;
SET @to = @owned;
` + moves.String() + `SELECT COUNT(*) INTO @n FROM ` + delayed + ` WHERE r.nth <= @to;
DELETE d FROM ` + delayed + ` WHERE r.nth <= @to;
` + s.sql(bump)
}

// Promote implements [core.Writer]. It moves fewer events where those that are due take too long.
func (s *session) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	begun := time.Now()
	p, err := s.promoteDue(ctx, epoch, s.dialect.promotions.Of(limit), promoteTime)
	s.dialect.promotions.Took(p.Moved, time.Since(begun), promoteTimeout, err)
	return p, err
}

func (s *session) promoteDue(ctx context.Context, epoch int64, limit int, within time.Duration) (core.Promotion, error) {
	fenced, due, err := s.due(ctx, epoch, limit)
	if err != nil {
		return core.Promotion{}, fmt.Errorf("look for delayed events: %w", err)
	}
	if fenced || len(due) == 0 {
		return core.Promotion{Fenced: fenced}, nil
	}
	var owned, moved int
	if err := s.writeWithin(ctx, promoteTimeout, s.promote(epoch, due, within), "@owned, @n", &owned, &moved); err != nil {
		return core.Promotion{}, fmt.Errorf("promote delayed events: %w", err)
	}
	return core.Promotion{Moved: moved, Fenced: owned == 0}, nil
}

// due returns the positions of what is due, in the order in which it came due, and whether the lease is another's.
func (s *session) due(ctx context.Context, epoch int64, limit int) (fenced bool, due []int64, err error) {
	fenced = true
	err = s.read(ctx, strings.Replace(s.sql(findDue), "{limit}", integer(limit), 1), func(rows *sqlx.Rows) error {
		var of, position int64
		if err := rows.Scan(&of, &position); err != nil {
			return err
		}
		fenced = of != epoch
		if position > 0 {
			due = append(due, position)
		}
		return nil
	})
	return fenced, due, err
}
