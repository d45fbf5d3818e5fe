package mysql

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// equals adds a test to a condition for each value that is set.
func equals(condition, id, topic, key string) string {
	for _, field := range []struct{ column, value string }{{"id", id}, {"topic", topic}, {"`key`", key}} {
		if field.value != "" {
			condition += ` AND ` + field.column + ` = ` + text(field.value)
		}
	}
	return condition
}

// behind is the condition for what comes after ref, in the order of positions and ids.
func behind(ref core.Ref) string {
	return `(position > ` + integer(ref.Position) + ` OR position = ` + integer(ref.Position) + ` AND id > ` + text(ref.ID) + `)`
}

// where is the condition for the dead letters that match filter.
func where(filter core.DeadFilter) string {
	condition := ` WHERE dropped_at IS NULL`
	if filter.Dropped {
		condition = ` WHERE dropped_at IS NOT NULL`
	}
	condition = equals(condition, filter.ID, filter.Topic, filter.Key)
	if filter.CauseContains != "" {
		condition += ` AND LOCATE(` + text(filter.CauseContains) + `, cause) > 0`
	}
	if filter.OlderThan > 0 {
		condition += ` AND buried_at <= ` + later(-filter.OlderThan)
	}
	return condition
}

// ListDead implements [core.OperatorStore].
func (s *session) ListDead(ctx context.Context, filter core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	var letters []core.DeadLetter
	err := s.read(ctx, s.sql("SELECT position, id, topic, `key`, headers, payload, "+micros("created_at")+`, attempts, cause,
  `+micros("buried_at")+`, drop_reason FROM {dead}`)+where(filter)+` AND `+behind(after)+` ORDER BY position, id LIMIT `+integer(limit),
		func(rows *sqlx.Rows) error {
			var l core.DeadLetter
			var object []byte
			var createdAt, buriedAt int64
			m := &l.Message
			err := rows.Scan(&l.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &createdAt, &l.Attempts, &l.Cause, &buriedAt, &l.DropReason)
			m.Headers, m.EnqueuedAt, l.BuriedAt = headers.OfRow(object), time.UnixMicro(createdAt), time.UnixMicro(buriedAt)
			letters = append(letters, l)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// CountDead implements [core.OperatorStore].
func (s *session) CountDead(ctx context.Context, filter core.DeadFilter) (n int64, err error) {
	if err := s.readRow(ctx, s.sql(`SELECT COUNT(*) FROM {dead}`)+where(filter), &n); err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return n, nil
}

// act picks the first dead letters d that match condition, and then does to them what do makes of their names, in one
// transaction that tells the readers. do sets @n to how many it found as they were picked: what somebody else did to one in
// between is left as it is. Where that was so with all of them, the next ones are picked.
func (s *session) act(ctx context.Context, condition string, limit int, do func(refs []core.Ref) string) (int, error) {
	var before []core.Ref
	for {
		refs, err := s.pick(ctx, s.sql(`SELECT position, id FROM {dead} AS d`)+condition+` ORDER BY position, id LIMIT `+integer(limit))
		if err != nil || slices.Equal(refs, before) {
			return 0, err
		}
		done := 0
		for chunk := range slices.Chunk(refs, maxRefs) {
			n := 0
			if err := s.write(ctx, do(chunk)+`; `+s.sql(bump), "@n", &n); err != nil {
				return 0, err
			}
			done += n
		}
		if done > 0 {
			return done, nil
		}
		before = refs
	}
}

// pick reads names.
func (s *session) pick(ctx context.Context, statement string) (refs []core.Ref, err error) {
	err = s.read(ctx, statement, func(rows *sqlx.Rows) error {
		var r core.Ref
		err := rows.Scan(&r.Position, &r.ID)
		refs = append(refs, r)
		return err
	})
	return refs, err
}

// isFree is true of a dead letter d whose position is not taken by another event, of a time before a restore. It is looked up for each,
// by the primary key: a join could read the whole outbox.
const isFree = ` AND (SELECT COUNT(*) FROM {outbox} AS o WHERE o.position = d.position) = 0`

// RetryDead implements [core.OperatorStore]. A dead letter whose position is taken since it was picked, or by its twin, stays.
func (s *session) RetryDead(ctx context.Context, filter core.DeadFilter, limit int) (int, error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	n, err := s.act(ctx, where(filter)+s.sql(isFree), limit, func(refs []core.Ref) string {
		dead := s.these("{dead}", "d", refs)
		back := dead + s.sql(` STRAIGHT_JOIN {outbox} AS o ON o.position = d.position AND o.id = d.id WHERE d.dropped_at IS NULL`)
		return s.sql("INSERT INTO {outbox} (position, id, topic, `key`, headers, payload, created_at)\n"+
			"SELECT d.position, d.id, d.topic, d.`key`, d.headers, d.payload, d.created_at FROM ") + dead +
			` WHERE d.dropped_at IS NULL` + s.forUpdate("d") + s.sql(` ON DUPLICATE KEY UPDATE position = {outbox}.position`) + `;
SELECT COUNT(*) INTO @n FROM ` + back + `;
DELETE d FROM ` + back + `;
` + s.unblocking(s.these("{outbox}", "o", refs), "o", "TRUE")
	})
	if err != nil {
		return 0, fmt.Errorf("retry dead letters: %w", err)
	}
	return n, nil
}

// noTwinWaits is true of a dead letter d unless another one of its place and key waits. Such twins come from a restore, after
// which positions are used again; the key's later events are behind both. A DELETE locks what its subquery reads, so that of two
// operators who drop twins at once one sees what the other did.
const noTwinWaits = "NOT EXISTS (SELECT 1 FROM {dead} AS w WHERE w.position = d.position AND w.topic = d.topic AND w.`key` = d.`key` AND w.dropped_at IS NULL)"

// DropDead implements [core.OperatorStore].
func (s *session) DropDead(ctx context.Context, filter core.DeadFilter, reason string, limit int) (int, error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	n, err := s.act(ctx, where(filter), limit, func(refs []core.Ref) string {
		dead := s.these("{dead}", "d", refs)
		return `SELECT COUNT(*) INTO @n FROM ` + dead + ` WHERE d.dropped_at IS NULL` + s.forUpdate("d") + `;
UPDATE ` + dead + ` SET d.dropped_at = UTC_TIMESTAMP(6), d.drop_reason = ` + text(errtext.Clean(reason)) + ` WHERE d.dropped_at IS NULL;
` + s.unblocking(dead, "d", "d.dropped_at IS NOT NULL AND "+s.sql(noTwinWaits))
	})
	if err != nil {
		return 0, fmt.Errorf("drop dead letters: %w", err)
	}
	return n, nil
}

// unblocking removes the blocks of the events that are meant.
func (s *session) unblocking(events, alias, condition string) string {
	return "DELETE b FROM " + events + s.sql(" STRAIGHT_JOIN {blocked} AS b ON b.topic = ") + alias + ".topic AND b.`key` = " + alias +
		".`key` AND b.position = " + alias + ".position WHERE " + condition
}
