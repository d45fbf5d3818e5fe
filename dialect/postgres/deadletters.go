package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// createdAt is a time that Go and a driver can hold, whatever a table without its CHECK has.
const createdAt = `greatest(timestamptz '0001-01-01 00:00Z', least(created_at, timestamptz '9999-12-31 00:00Z'))`

// where is the condition for the dead letters that match filter.
func where(filter core.DeadFilter) string {
	condition := ` WHERE dropped_at IS NULL`
	if filter.Dropped {
		condition = ` WHERE dropped_at IS NOT NULL`
	}
	for _, field := range []struct{ column, value string }{{"id", filter.ID}, {"topic", filter.Topic}, {"key", filter.Key}} {
		if field.value != "" {
			condition += ` AND ` + field.column + ` = ` + text(field.value)
		}
	}
	if filter.CauseContains != "" {
		condition += ` AND strpos(cause, ` + text(filter.CauseContains) + `) > 0`
	}
	if filter.OlderThan > 0 {
		condition += ` AND buried_at <= clock_timestamp() - ` + interval(filter.OlderThan)
	}
	return condition
}

// action is a statement that does then with the dead letters d which condition picks, and goes on to unblock each d that the list
// named done holds and for which unblocks is true. It locks them: another action on the same ones waits, and passes them over. Values
// come in last, so that nothing of them is taken for a placeholder.
func (s *session) action(condition string, limit int, then, done, unblocks string, values ...string) string {
	statement := s.sql(`WITH picked AS MATERIALIZED (
  SELECT * FROM {dead} AS d{where} ORDER BY position, id LIMIT {limit} FOR UPDATE
)` + then + strings.NewReplacer("{of}", done, "{unblocks}", unblocks).Replace(unblockTheirs))
	values = append(values, "{where}", condition, "{limit}", integer(limit))
	return strings.NewReplacer(values...).Replace(statement)
}

type deadRow struct {
	Position   int64     `db:"position"`
	ID         string    `db:"id"`
	Topic      string    `db:"topic"`
	Key        string    `db:"key"`
	Headers    []byte    `db:"headers"`
	Payload    []byte    `db:"payload"`
	CreatedAt  time.Time `db:"created_at"`
	Attempts   int       `db:"attempts"`
	Cause      string    `db:"cause"`
	BuriedAt   time.Time `db:"buried_at"`
	DropReason string    `db:"drop_reason"`
}

func (r deadRow) deadLetter() core.DeadLetter {
	return core.DeadLetter{
		Record: core.Record{
			Position: r.Position,
			Message:  core.Message{ID: r.ID, Topic: r.Topic, Key: r.Key, Headers: headers.OfRow(r.Headers), Payload: r.Payload, EnqueuedAt: r.CreatedAt},
			Attempts: r.Attempts,
		},
		Cause: r.Cause, BuriedAt: r.BuriedAt, DropReason: r.DropReason,
	}
}

// ListDead implements [core.OperatorStore].
func (s *session) ListDead(ctx context.Context, filter core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	var letters []core.DeadLetter
	err := s.query(ctx, s.sql(`SELECT position, id, topic, key, headers::text AS headers, payload, `+createdAt+` AS created_at, attempts, cause,
  buried_at, drop_reason FROM {dead}`)+where(filter)+` AND (position, id) > (`+integer(after.Position)+`, `+text(after.ID)+`) ORDER BY position, id LIMIT `+integer(limit),
		func(rows *sqlx.Rows) error {
			var row deadRow
			if err := rows.StructScan(&row); err != nil {
				return err
			}
			letters = append(letters, row.deadLetter())
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	return letters, nil
}

// CountDead implements [core.OperatorStore].
func (s *session) CountDead(ctx context.Context, filter core.DeadFilter) (n int64, err error) {
	if err := s.queryRow(ctx, s.sql(`SELECT count(*) FROM {dead}`)+where(filter), &n); err != nil {
		return 0, fmt.Errorf("count dead letters: %w", err)
	}
	return n, nil
}

// planByKey makes the planner go along an index, whatever it thinks of the tables.
const planByKey = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; `

// unblockTheirs goes on from a list {of} dead letters: it removes their blocks, and tells the readers. Each block is looked up as a
// value of its own, by the primary key: a join could read all of them for each dead letter (see planByPosition).
const unblockTheirs = `, unblocked AS (
  DELETE FROM {blocked} WHERE ctid = ANY (ARRAY(SELECT (
    SELECT b.ctid FROM {blocked} AS b WHERE b.topic = d.topic AND b.key = d.key AND b.position = d.position
  ) FROM {of} AS d WHERE {unblocks}))
), bumped AS (
  UPDATE {control} SET generation = generation + 1 WHERE EXISTS (SELECT FROM {of})
)
SELECT count(*) FROM {of}`

// isFree is true of a dead letter d whose position is not taken by another event, of a time before a restore. It is looked up for each,
// by the primary key: a join could read the whole outbox.
const isFree = ` AND (SELECT count(*) FROM {outbox} AS o WHERE o.position = d.position) = 0`

// A dead letter whose position is taken since it was picked, or by its twin, stays.
const retryDead = `, back AS (
  INSERT INTO {outbox} (position, id, topic, key, headers, payload, created_at) OVERRIDING SYSTEM VALUE
  SELECT position, id, topic, key, headers, payload, created_at FROM picked
  ON CONFLICT (position) DO NOTHING
  RETURNING position, id, topic, key
), gone AS (
  DELETE FROM {dead} AS d USING back WHERE d.position = back.position AND d.id = back.id
    AND d.position = ANY (ARRAY(SELECT position FROM back))
)`

// oneByOne makes operators wait for each other before they look: two that drop twins at once would each see the other's wait, and both
// leave the block. Whoever tells the readers takes this lock first, or they wait for each other in a circle.
const oneByOne = `UPDATE {control} SET generation = generation; `

// RetryDead implements [core.OperatorStore].
func (s *session) RetryDead(ctx context.Context, filter core.DeadFilter, limit int) (n int, err error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	statement := s.action(where(filter)+s.sql(isFree), limit, retryDead, "back", "true")
	if err := s.queryRow(ctx, planByKey+s.sql(oneByOne)+statement, &n); err != nil {
		return 0, fmt.Errorf("retry dead letters: %w", err)
	}
	return n, nil
}

// noTwinWaits says of a dropped d that its block is needed no more: after a restore two dead letters can have one position, and then
// have one block. The statement sees the dead letters as they were before it, the dropped ones too.
const noTwinWaits = `(SELECT count(*) FROM {dead} AS w WHERE w.position = d.position AND w.topic = d.topic AND w.key = d.key
    AND w.dropped_at IS NULL AND (w.position, w.id) NOT IN (SELECT position, id FROM dropped)) = 0`

// DropDead implements [core.OperatorStore].
func (s *session) DropDead(ctx context.Context, filter core.DeadFilter, reason string, limit int) (n int, err error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	statement := s.action(where(filter), limit, `, dropped AS (
  UPDATE {dead} AS d SET dropped_at = clock_timestamp(), drop_reason = {reason}
  FROM picked AS p WHERE d.position = p.position AND d.id = p.id AND d.position = ANY (ARRAY(SELECT position FROM picked))
  RETURNING d.position, d.id, d.topic, d.key
)`, "dropped", noTwinWaits, "{reason}", text(errtext.Clean(reason)))
	if err := s.queryRow(ctx, planByKey+s.sql(oneByOne)+statement, &n); err != nil {
		return 0, fmt.Errorf("drop dead letters: %w", err)
	}
	return n, nil
}
