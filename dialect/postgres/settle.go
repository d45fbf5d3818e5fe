package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/errtext"
)

// planByPosition makes each reference a look-up by the primary key, ascending, so that two relays which overlap wait for each other
// instead of deadlocking. The positions must stand in the statement as an array of their own (position = ANY): who joins a list
// alone leaves it to the planner which side is looked up for each row of the other. A table that was vacuumed while it was empty,
// as an outbox often is, is one row to it, and a backlog in it was then read as often as the list has entries.
const planByPosition = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; ` +
	`SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; `

// planByList does so for a statement that joins the rows, which position = ANY finds, with the list. They are hashed: to a planner that
// expects one row, comparing the list with each is as good, and that took seconds for a list of 2000.
const planByList = `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; ` +
	`SET LOCAL enable_nestloop = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off; `

// ascending returns values in the order of their positions, without changing the argument.
func ascending[T any](values []T, position func(T) int64) []T {
	byPosition := func(a, b T) int { return int(min(1, max(-1, position(a)-position(b)))) }
	if slices.IsSortedFunc(values, byPosition) {
		return values
	}
	sorted := slices.Clone(values)
	slices.SortFunc(sorted, byPosition)
	return sorted
}

// Acknowledge implements [core.Writer].
func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	if len(refs) == 0 {
		return nil
	}
	// Position and id in one text: the server hashes a list of texts, and looks at each row once. It sorts the positions.
	remove := s.sql(`DELETE FROM {outbox} AS o WHERE o.position = ANY (`) +
		integers(refs, func(r core.Ref) int64 { return r.Position }) + `) AND o.position::text || ' ' || o.id = ANY (` +
		places(refs) + `)`
	var err error
	if len(s.dialect.archive) > 0 {
		err = s.archive(ctx, remove)
	} else {
		err = s.exec(ctx, planByPosition+remove)
	}
	if err != nil {
		return fmt.Errorf("delete events: %w", err)
	}
	return nil
}

// Fail implements [core.Writer].
func (s *session) Fail(ctx context.Context, failures []core.Failure) error {
	if len(failures) == 0 {
		return nil
	}
	if err := s.exec(ctx, planByList+s.failing(failures)); err != nil {
		return fmt.Errorf("note failures: %w", err)
	}
	return nil
}

// failing is the statement that notes failures.
func (s *session) failing(failures []core.Failure) string {
	failures = ascending(failures, func(f core.Failure) int64 { return f.Position })
	return s.sql(`UPDATE {outbox} AS o SET attempts = f.attempts, last_error = f.cause,
  retry_at = clock_timestamp() + f.retry_in * interval '1 microsecond'
FROM unnest(`) +
		integers(failures, func(f core.Failure) int64 { return f.Position }) + `, ` +
		texts(failures, func(f core.Failure) string { return f.ID }) + `, ` +
		integers(failures, func(f core.Failure) int64 { return int64(f.Attempts) }) + `, ` +
		integers(failures, func(f core.Failure) int64 { return f.RetryIn.Microseconds() }) + `, ` +
		texts(failures, func(f core.Failure) string { return errtext.Clean(f.Cause) }) +
		`) AS f (position, id, attempts, retry_in, cause)
WHERE o.position = f.position AND o.id = f.id AND o.attempts = f.attempts - 1 AND o.position = ANY (` +
		integers(failures, func(f core.Failure) int64 { return f.Position }) + `)`
}

// bury inserts what its delete removed, so that a second call finds nothing to do, nor one that comes after an
// operator's retry. A dead letter of the same name can
// only come from a restore: the newer one takes its place.
const bury = `), gone AS (
  DELETE FROM {outbox} AS o USING b WHERE o.position = b.position AND o.id = b.id AND o.attempts = b.attempts - 1
    AND o.position = ANY (ARRAY(SELECT position FROM b))
  RETURNING o.position, o.id, o.topic, o.key, o.headers, o.payload, o.created_at, b.attempts, b.cause, b.skip
), buried AS (
  INSERT INTO {dead} (position, id, topic, key, headers, payload, created_at, attempts, cause)
  SELECT position, id, topic, key, headers, payload, created_at, attempts, cause FROM gone
  ON CONFLICT (position, id) DO UPDATE SET topic = excluded.topic, key = excluded.key, headers = excluded.headers,
    payload = excluded.payload, created_at = excluded.created_at, attempts = excluded.attempts, cause = excluded.cause,
    buried_at = excluded.buried_at, dropped_at = NULL, drop_reason = ''
)
INSERT INTO {blocked} (topic, key, position)
SELECT topic, key, position FROM gone WHERE key <> '' AND NOT skip
ON CONFLICT DO NOTHING`

// Bury implements [core.Writer].
func (s *session) Bury(ctx context.Context, burials []core.Burial) error {
	if len(burials) == 0 {
		return nil
	}
	if err := s.exec(ctx, planByList+s.burying(burials)); err != nil {
		return fmt.Errorf("bury events: %w", err)
	}
	return nil
}

// burying is the statement that buries.
func (s *session) burying(burials []core.Burial) string {
	burials = ascending(burials, func(b core.Burial) int64 { return b.Position })
	return `WITH b AS MATERIALIZED (
  SELECT position, id, attempts, cause, skip <> 0 AS skip FROM unnest(` +
		integers(burials, func(b core.Burial) int64 { return b.Position }) + `, ` +
		texts(burials, func(b core.Burial) string { return b.ID }) + `, ` +
		integers(burials, func(b core.Burial) int64 { return int64(b.Attempts) }) + `, ` +
		texts(burials, func(b core.Burial) string { return errtext.Clean(b.Cause) }) + `, ` +
		integers(burials, func(b core.Burial) int64 { return flag(b.Skip) }) +
		`) AS b (position, id, attempts, cause, skip)` + s.sql(bury)
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
