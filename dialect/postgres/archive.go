package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

var _ core.ArchiveStore = (*session)(nil)

// everyTopic is what a configuration says instead of naming them all.
const everyTopic = "*"

// uniqueViolation is the SQLSTATE of a row that is there already.
const uniqueViolation = "23505"

// intoArchive lets the statement that removes delivered events keep those of the configured topics, in the same
// statement: an event is in the outbox, or in the archive, or was not to be kept.
func (s *session) intoArchive(remove string) string {
	kept := ``
	if topics := s.dialect.archive; !slices.Contains(topics, everyTopic) {
		kept = ` WHERE topic = ANY (` + texts(topics, func(topic string) string { return topic }) + `)`
	}
	return `WITH gone AS (` + remove + `
  RETURNING o.position, o.id, o.topic, o.key, o.headers, o.payload, o.created_at, o.attempts
)` + s.sql(`INSERT INTO {archive} (position, id, topic, key, headers, payload, created_at, attempts)
SELECT position, id, topic, key, headers, payload, created_at, attempts FROM gone`) + kept
}

// archive runs the statement that removes delivered events, and keeps them. What is in the archive already was moved before a
// restore, and stays. That is rare, and looking for it costs each event a tenth of the statement: only where the server refused
// a second one it is asked to pass over them.
func (s *session) archive(ctx context.Context, remove string) error {
	statement := planByPosition + s.intoArchive(remove)
	return s.guard(ctx, func(call context.Context) error {
		_, err := s.conn.ExecContext(call, prologue(ctx)+statement)
		var native *pq.Error
		if errors.As(err, &native) && native.SQLState() == uniqueViolation {
			_, err = s.conn.ExecContext(call, prologue(ctx)+statement+` ON CONFLICT DO NOTHING`)
		}
		return err
	})
}

// archived is the condition for what matches filter and comes after after, and the order.
func archived(filter core.ArchiveFilter, after core.Ref, limit int) string {
	condition := ` WHERE (position, id) > (` + integer(after.Position) + `, ` + text(after.ID) + `)`
	for _, field := range []struct{ column, value string }{{"id", filter.ID}, {"topic", filter.Topic}, {"key", filter.Key}} {
		if field.value != "" {
			condition += ` AND ` + field.column + ` = ` + text(field.value)
		}
	}
	if !filter.From.IsZero() {
		condition += ` AND created_at >= ` + timestamp(filter.From)
	}
	if !filter.To.IsZero() {
		condition += ` AND created_at < ` + timestamp(filter.To)
	}
	return condition + ` ORDER BY position, id LIMIT ` + integer(limit)
}

// ListArchived implements [core.ArchiveStore].
func (s *session) ListArchived(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
	var events []core.ArchivedEvent
	err := s.query(ctx, s.sql(`SELECT position, id, topic, key, headers::text AS headers, payload, `+createdAt+` AS created_at, attempts,
  delivered_at FROM {archive}`)+archived(filter, after, limit),
		func(rows *sqlx.Rows) error {
			var e core.ArchivedEvent
			var object []byte
			m := &e.Message
			err := rows.Scan(&e.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &m.EnqueuedAt, &e.Attempts, &e.DeliveredAt)
			m.Headers = headers.OfRow(object)
			events = append(events, e)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list archived events: %w", err)
	}
	return events, nil
}

// replay gives the copies new positions in the order of the sorted rows, and the time at which they took them.
const replay = `WITH picked AS MATERIALIZED (
  SELECT position, id, topic, key, headers, payload FROM {archive}{where}
), back AS (
  INSERT INTO {outbox} (id, topic, key, headers, payload)
  SELECT id, topic, key, headers, payload FROM picked ORDER BY position, id
), bumped AS (
  UPDATE {control} SET generation = generation + 1 WHERE EXISTS (SELECT FROM picked)
), last AS (
  SELECT position, id FROM picked ORDER BY position DESC, id DESC LIMIT 1
)
SELECT (SELECT count(*) FROM picked), coalesce((SELECT position FROM last), 0), coalesce((SELECT id FROM last), '')`

// Replay implements [core.ArchiveStore].
func (s *session) Replay(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) (n int, last core.Ref, err error) {
	// Values come in last, so that nothing of them is taken for a table's name.
	statement := strings.Replace(s.sql(replay), "{where}", archived(filter, after, limit), 1)
	if err := s.queryRow(ctx, statement, &n, &last.Position, &last.ID); err != nil {
		return 0, core.Ref{}, fmt.Errorf("replay archived events: %w", err)
	}
	if n == 0 {
		last = after
	}
	return n, last, nil
}

// planByAge makes the planner go along an index on the age, which ends at the limit, whatever it thinks of the table: any other way
// ends in a sort.
const planByAge = `SET LOCAL enable_sort = off; `

// purge finds what is oldest by an index on the age. Two purges at once take different rows; a row that is locked stays where it is.
const purge = `WITH old AS MATERIALIZED (
  SELECT ctid AS place FROM {archive} WHERE delivered_at <= now() - {age} ORDER BY delivered_at, position, id
  LIMIT {limit} FOR UPDATE SKIP LOCKED
), dropped AS MATERIALIZED (
  SELECT ctid AS place FROM {dead} WHERE dropped_at <= now() - {age} ORDER BY dropped_at, position, id
  LIMIT {limit} FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM {archive} WHERE ctid = ANY (ARRAY(SELECT place FROM old)) RETURNING 1
), forgotten AS (
  DELETE FROM {dead} WHERE ctid = ANY (ARRAY(SELECT place FROM dropped)) RETURNING 1
)
SELECT (SELECT count(*) FROM gone) + (SELECT count(*) FROM forgotten)`

// Purge implements [core.ArchiveStore].
func (s *session) Purge(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	statement := strings.NewReplacer("{age}", interval(olderThan), "{limit}", integer(limit)).Replace(s.sql(purge))
	if err := s.queryRow(ctx, planByAge+statement, &n); err != nil {
		return 0, fmt.Errorf("purge: %w", err)
	}
	return n, nil
}
