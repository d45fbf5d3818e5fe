package postgres

import (
	"context"
	"fmt"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// What is inserted comes from arrays: however many messages there are, they are one statement. Arguments are strings in
// PostgreSQL's own array notation, which any driver passes on as they are. Positions are handed out in the order of the
// sorted rows.
const (
	// enqueueOne is for the usual case, an event that is due: the server plans it in a fraction of the time that it takes
	// for the others.
	enqueueOne = `INSERT INTO {outbox} (id, topic, key, headers, payload) VALUES ($1::text, $2::text, $3::text, $4::text::jsonb, $5::bytea)`

	enqueueDue = `INSERT INTO {outbox} (id, topic, key, headers, payload)
SELECT id, topic, key, headers::jsonb, payload
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[]) WITH ORDINALITY AS m (id, topic, key, headers, payload, n)
ORDER BY n`

	// One statement for both tables. Zero is no time: it marks what is due now.
	enqueueMixed = `WITH m AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::bigint[]) WITH ORDINALITY
    AS m (id, topic, key, headers, payload, not_before, n)
), later AS (
  INSERT INTO {delayed} (id, topic, key, headers, payload, not_before)
  SELECT id, topic, key, headers::jsonb, payload, timestamptz 'epoch' + not_before * interval '1 microsecond'
  FROM m WHERE not_before <> 0 ORDER BY n
)
INSERT INTO {outbox} (id, topic, key, headers, payload)
SELECT id, topic, key, headers::jsonb, payload FROM m WHERE not_before = 0 ORDER BY n`
)

// Enqueue implements [core.Dialect].
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	if len(msgs) == 1 && msgs[0].NotBefore.IsZero() {
		return d.enqueueOne(ctx, tx, &msgs[0])
	}
	n := len(msgs)
	ids, topics, keys := make(pq.StringArray, n), make(pq.StringArray, n), make(pq.StringArray, n)
	encoded, payloads := make(pq.StringArray, n), make(pq.ByteaArray, n)
	notBefore, delayed := make(pq.Int64Array, n), false
	for i, m := range msgs {
		var err error
		if encoded[i], err = headers.Encode(m.Headers); err != nil {
			return err
		}
		ids[i], topics[i], keys[i], payloads[i] = m.ID, m.Topic, m.Key, m.Payload
		if m.Payload == nil {
			payloads[i] = []byte{} // nil would be NULL
		}
		if !m.NotBefore.IsZero() {
			delayed, notBefore[i] = true, dueMicros(m)
		}
	}
	args := []any{notation(ids), notation(topics), notation(keys), notation(encoded), notation(payloads)}
	query := enqueueDue
	if delayed {
		query, args = enqueueMixed, append(args, notation(notBefore))
	}
	if _, err := tx.ExecContext(ctx, d.names.Replace(query), args...); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

func (d *Dialect) enqueueOne(ctx context.Context, tx core.Execer, m *core.Message) error {
	encoded, err := headers.Encode(m.Headers)
	if err != nil {
		return err
	}
	payload := m.Payload
	if payload == nil {
		payload = []byte{} // nil would be NULL
	}
	if _, err := tx.ExecContext(ctx, d.names.Replace(enqueueOne), m.ID, m.Topic, m.Key, encoded, payload); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

// dueMicros is NotBefore in microseconds since 1970, from 1 on, rounded up so that nothing is early.
func dueMicros(m core.Message) int64 {
	t := clampYear(m.NotBefore)
	us := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		us++
	}
	return max(1, us)
}

// lockKeys hashes on the server, so that every caller, in any language, gets the same number for a key. The seed keeps
// them apart from other users of advisory locks. The outbox has no part in it: two names for one table (with the schema,
// or by the search path) must not be two locks.
const lockKeys = `SELECT pg_advisory_xact_lock(h) FROM (
  SELECT DISTINCT hashtextextended(key, hashtextextended(topic, 7813853131093270896)) AS h
  FROM unnest($1::text[], $2::text[]) AS m (topic, key) ORDER BY h
) AS ascending`

// LockKeys implements [core.KeyLocker] by advisory locks that the transaction's end releases, in ascending order of
// their numbers. Two keys that share a number only wait for each other without need.
func (d *Dialect) LockKeys(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	var topics, keys pq.StringArray
	for _, m := range msgs {
		if m.Key != "" {
			topics, keys = append(topics, m.Topic), append(keys, m.Key)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	if _, err := tx.ExecContext(ctx, lockKeys, notation(topics), notation(keys)); err != nil {
		return fmt.Errorf("lock keys: %w", err)
	}
	return nil
}
