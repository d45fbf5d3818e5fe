package main

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Fetch is one statement, and so one snapshot: the tail, the gaps, the generation and the blocked keys belong together.
// Nothing is left out for its retry time, or a key's next event would overtake it.
func (s *session) Fetch(ctx context.Context, r core.FetchRequest) (result core.FetchResult, err error) {
	gaps := make([][2]int64, len(r.Gaps))
	floor := r.After + 1
	for i, gap := range r.Gaps {
		gaps[i] = [2]int64{gap.First, gap.Last}
		floor = min(floor, gap.First)
	}
	encoded, err := json.Marshal(gaps)
	if err != nil {
		return result, err
	}
	rows, err := s.conn.QueryContext(ctx, `SELECT c.generation, c.outbox, e.* FROM control AS c LEFT JOIN (
  SELECT position, id, topic, key, headers, payload, enqueued_at, attempts, iif(retry_at = 0, 0, retry_at - `+now+`) FROM events AS e
  WHERE state = 'pending' AND position >= ?
    AND (position > ? OR EXISTS (SELECT 1 FROM json_each(?) WHERE position BETWEEN value ->> 0 AND value ->> 1))
    AND NOT EXISTS (SELECT 1 FROM blocked AS b WHERE b.topic = e.topic AND (b.key = e.key AND b.key <> '' OR b.key = '' AND b.position = 0))
  ORDER BY position LIMIT ?) AS e ORDER BY e.position`, floor, r.After, string(encoded), r.Limit)
	if err != nil {
		return result, err
	}
	defer rows.Close()
	size := 0
	for rows.Next() && !result.More {
		var position, attempts, enqueuedAt, retryIn sql.NullInt64
		var id, topic, key, headers sql.NullString
		var payload []byte
		err := rows.Scan(&result.Generation, &result.Incarnation, &position, &id, &topic, &key, &headers, &payload, &enqueuedAt, &attempts, &retryIn)
		if err != nil {
			return result, err
		}
		if !position.Valid { // nothing but the control row
			break
		}
		m := message(id.String, topic.String, key.String, headers.String, payload, enqueuedAt.Int64)
		result.Records = append(result.Records, core.Record{
			Position: position.Int64, Message: m, Attempts: int(attempts.Int64), RetryIn: time.Duration(retryIn.Int64) * time.Millisecond,
		})
		size += len(m.Payload) + len(m.Key)
		for name, value := range m.Headers {
			size += len(name) + len(value)
		}
		result.More = len(result.Records) == r.Limit || size >= r.MaxBytes
	}
	return result, rows.Err()
}

func message(id, topic, key, headers string, payload []byte, enqueuedAt int64) core.Message {
	m := core.Message{ID: id, Topic: topic, Key: key, Payload: payload, EnqueuedAt: time.UnixMilli(enqueuedAt)}
	if json.Unmarshal([]byte(headers), &m.Headers) != nil { // a row of somebody else's must not hold back everybody
		m.Headers = map[string]string{core.ReservedHeaderPrefix + "undecodable-headers": headers}
	}
	return m
}

// ResolveGaps proves that nobody can fill a gap. Here that is easy: SQLite has one writer, so whoever reads that a position
// was handed out knows that its transaction is over. Where several write at the same time this is the hardest method of
// all: read its documentation twice.
func (s *session) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	var last int64
	err := s.conn.QueryRowContext(ctx, `SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'`).Scan(&last)
	if err != nil {
		return err
	}
	for i := range gaps {
		gaps[i].Dead = gaps[i].Last <= last
	}
	return nil
}

// matching is a condition for the records that a JSON list of [position, id] names. Both must match: after a backup was
// restored, positions are used again.
const matching = `state = 'pending' AND (position, id) IN (SELECT value ->> 0, value ->> 1 FROM json_each(?))`

func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	rows := make([][2]any, len(refs))
	for i, r := range refs {
		rows[i] = [2]any{r.Position, r.ID}
	}
	encoded, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `DELETE FROM events WHERE `+matching, string(encoded))
	return err
}

// verdicts is a JSON list of what failed. A record matches that has one attempt less, so that a repetition changes nothing.
const verdicts = ` FROM (SELECT value ->> 0 AS position, value ->> 1 AS id, value ->> 2 AS attempts, value ->> 3 AS cause, value ->> 4 AS extra
  FROM json_each(?)) AS v WHERE e.position = v.position AND e.id = v.id AND e.attempts = v.attempts - 1 AND e.state = 'pending'`

func (s *session) Fail(ctx context.Context, failures []core.Failure) error {
	rows := make([][5]any, len(failures))
	for i, f := range failures {
		rows[i] = [5]any{f.Position, f.ID, f.Attempts, clean(f.Cause), (f.RetryIn + time.Millisecond - 1).Milliseconds()}
	}
	encoded, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `UPDATE events AS e SET attempts = v.attempts, cause = v.cause, retry_at = `+now+` + v.extra`+verdicts, string(encoded))
	return err
}

// clean makes text of a cause that any database takes.
func clean(cause string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(cause, "?"), "\x00", "?")
}

func (s *session) Bury(ctx context.Context, burials []core.Burial) error {
	rows := make([][5]any, len(burials))
	for i, b := range burials {
		rows[i] = [5]any{b.Position, b.ID, b.Attempts, clean(b.Cause), b.Skip}
	}
	encoded, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	return s.dialect.write(ctx, s.conn, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO blocked (topic, key, position) SELECT e.topic, e.key, e.position FROM events AS e, (
  SELECT value ->> 0 AS position, value ->> 1 AS id, value ->> 2 AS attempts, value ->> 4 AS skip FROM json_each(?)) AS v
WHERE e.position = v.position AND e.id = v.id AND e.attempts = v.attempts - 1 AND e.state = 'pending' AND e.key <> '' AND NOT v.skip
ON CONFLICT DO NOTHING`, string(encoded))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `UPDATE events AS e SET state = 'dead', attempts = v.attempts, cause = v.cause, buried_at = `+now+verdicts, string(encoded))
		return err
	})
}

// Promote moves what is due, and ends by itself: whoever takes the lease over waits for it.
func (s *session) Promote(ctx context.Context, epoch int64, limit int) (p core.Promotion, err error) {
	ctx, cancel := context.WithTimeout(ctx, 800*time.Millisecond)
	defer cancel()
	err = s.dialect.write(ctx, s.conn, func(tx *sql.Tx) error {
		var current, clock int64
		if err := tx.QueryRowContext(ctx, `SELECT epoch, `+now+` FROM control`).Scan(&current, &clock); err != nil {
			return err
		}
		if p.Fenced = current != epoch; p.Fenced {
			return nil
		}
		moved, err := affected(ctx, tx, `INSERT INTO events (id, topic, key, headers, payload, enqueued_at)
SELECT id, topic, key, headers, payload, not_before FROM delayed WHERE not_before <= ? ORDER BY not_before, number LIMIT ?`, clock, limit)
		if err != nil || moved == 0 {
			return err
		}
		p.Moved = int(moved)
		_, err = tx.ExecContext(ctx, `DELETE FROM delayed WHERE number IN (
  SELECT number FROM delayed WHERE not_before <= ? ORDER BY not_before, number LIMIT ?)`, clock, limit)
		return cmp.Or(err, bump(ctx, tx))
	})
	return p, err
}

func (s *session) ReadLease(ctx context.Context) (l core.Lease, err error) {
	err = s.conn.QueryRowContext(ctx, `SELECT outbox, holder, epoch, renewals, holder = '' OR expires_at <= `+now+`, unclean, suspect_position, suspect_id
FROM control`).Scan(&l.Outbox, &l.Holder, &l.Epoch, &l.Renewals, &l.Expired, &l.Unclean, &l.Suspect.Position, &l.Suspect.ID)
	return l, err
}

func (s *session) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	n, err := s.exec(ctx, `UPDATE control SET unclean = unclean + (holder <> ''), holder = ?, epoch = epoch + 1, renewals = renewals + 1,
  expires_at = `+now+` + ? WHERE epoch = ? AND holder = ? AND renewals = ?`, holder, ttl.Milliseconds(), seen.Epoch, seen.Holder, seen.Renewals)
	return n == 1, err
}

func (s *session) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	n, err := s.exec(ctx, `UPDATE control SET renewals = renewals + 1, expires_at = `+now+` + ?, unclean = unclean * NOT ?
WHERE holder = ? AND epoch = ?`, ttl.Milliseconds(), progress, holder, epoch)
	return n == 1, err
}

func (s *session) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	_, err := s.exec(ctx, `UPDATE control SET holder = '', unclean = 0 WHERE holder = ? AND epoch = ?`, holder, epoch)
	return err
}

func (s *session) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	n, err := s.exec(ctx, `UPDATE control SET suspect_position = ?, suspect_id = ? WHERE holder = ? AND epoch = ?`,
		suspect.Position, suspect.ID, holder, epoch)
	return n == 1, err
}
