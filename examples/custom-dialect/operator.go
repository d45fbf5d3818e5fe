package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// condition selects dead letters. Every value is an argument, and every test is bytewise.
func condition(f core.DeadFilter) (string, []any) {
	text, args := `state = 'dead'`, []any(nil)
	if f.Dropped {
		text = `state = 'dropped'`
	}
	for _, part := range []struct{ test, value string }{
		{"id = ?", f.ID}, {"topic = ?", f.Topic}, {"key = ?", f.Key}, {"instr(cause, ?) > 0", f.CauseContains},
	} {
		if part.value != "" {
			text, args = text+` AND `+part.test, append(args, part.value)
		}
	}
	if f.OlderThan > 0 {
		text, args = text+` AND buried_at <= `+now+` - ?`, append(args, (f.OlderThan+time.Millisecond-1).Milliseconds())
	}
	return text, args
}

func (s *session) ListDead(ctx context.Context, f core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	text, args := condition(f)
	rows, err := s.conn.QueryContext(ctx, `SELECT position, id, topic, key, headers, payload, enqueued_at, attempts, cause, buried_at, drop_reason
FROM events WHERE `+text+` AND (position, id) > (?, ?) ORDER BY position, id LIMIT ?`, append(args, after.Position, after.ID, limit)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var letters []core.DeadLetter
	for rows.Next() {
		var l core.DeadLetter
		var id, topic, key, headers string
		var payload []byte
		var enqueuedAt, buriedAt int64
		err := rows.Scan(&l.Position, &id, &topic, &key, &headers, &payload, &enqueuedAt, &l.Attempts, &l.Cause, &buriedAt, &l.DropReason)
		if err != nil {
			return nil, err
		}
		l.Message, l.BuriedAt = message(id, topic, key, headers, payload, enqueuedAt), time.UnixMilli(buriedAt)
		letters = append(letters, l)
	}
	return letters, rows.Err()
}

func (s *session) CountDead(ctx context.Context, f core.DeadFilter) (n int64, err error) {
	text, args := condition(f)
	err = s.conn.QueryRowContext(ctx, `SELECT count(*) FROM events WHERE `+text, args...).Scan(&n)
	return n, err
}

// change updates the first dead letters that match, and lets their keys go, unless other dead letters block them.
func (s *session) change(ctx context.Context, f core.DeadFilter, limit int, set string, args ...any) (n int, err error) {
	if f.Dropped { // what was dropped stays so
		return 0, nil
	}
	text, values := condition(f)
	err = s.dialect.write(ctx, s.conn, func(tx *sql.Tx) error {
		picked := `(SELECT position FROM events WHERE ` + text + ` ORDER BY position LIMIT ?)`
		values = append(values, limit)
		_, err := tx.ExecContext(ctx, `DELETE FROM blocked WHERE (topic, key, position) IN (
  SELECT topic, key, position FROM events WHERE position IN `+picked+`)`, values...)
		if err != nil {
			return err
		}
		changed, err := affected(ctx, tx, `UPDATE events SET `+set+` WHERE position IN `+picked, append(args, values...)...)
		if n = int(changed); err != nil || n == 0 {
			return err
		}
		return bump(ctx, tx)
	})
	return n, err
}

func (s *session) RetryDead(ctx context.Context, f core.DeadFilter, limit int) (int, error) {
	return s.change(ctx, f, limit, `state = 'pending', attempts = 0, retry_at = 0`)
}

func (s *session) DropDead(ctx context.Context, f core.DeadFilter, reason string, limit int) (int, error) {
	return s.change(ctx, f, limit, `state = 'dropped', drop_reason = ?`, clean(reason))
}

// announced changes what is blocked, and tells relays where that changed anything.
func (s *session) announced(ctx context.Context, statement string, args ...any) (changed bool, err error) {
	err = s.dialect.write(ctx, s.conn, func(tx *sql.Tx) error {
		n, err := affected(ctx, tx, statement, args...)
		if changed = n > 0; err != nil || !changed {
			return err
		}
		return bump(ctx, tx)
	})
	return changed, err
}

func (s *session) Unblock(ctx context.Context, topic, key string) (bool, error) {
	return s.announced(ctx, `DELETE FROM blocked WHERE topic = ? AND key = ? AND key <> ''`, topic, key)
}

func (s *session) PauseTopic(ctx context.Context, topic string) (bool, error) {
	return s.announced(ctx, `INSERT INTO blocked (topic, key, position) VALUES (?, '', 0) ON CONFLICT DO NOTHING`, topic)
}

func (s *session) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	return s.announced(ctx, `DELETE FROM blocked WHERE topic = ? AND key = '' AND position = 0`, topic)
}

func (s *session) ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]core.BlockedKey, error) {
	rows, err := s.conn.QueryContext(ctx, `SELECT topic, key, min(position), since FROM blocked WHERE (topic, key) > (?, ?)
GROUP BY topic, key ORDER BY topic, key LIMIT ?`, afterTopic, afterKey, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var keys []core.BlockedKey
	for rows.Next() {
		var k core.BlockedKey
		var since int64
		if err := rows.Scan(&k.Topic, &k.Key, &k.Position, &since); err != nil {
			return nil, err
		}
		k.Since = time.UnixMilli(since)
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// Stats counts no further than it must: exact up to 10 000, then "more than that".
func (s *session) Stats(ctx context.Context) (stats core.Stats, err error) {
	const most = 10_000
	count := func(from string) string { return `(SELECT count(*) FROM (SELECT 1 FROM ` + from + ` LIMIT 10001)), ` }
	var age int64
	err = s.conn.QueryRowContext(ctx, `SELECT `+count(`events WHERE state = 'pending'`)+count(`delayed`)+count(`events WHERE state = 'dead'`)+
		`coalesce((SELECT `+now+` - enqueued_at FROM events WHERE state = 'pending' ORDER BY position LIMIT 1), 0),
  (SELECT count(*) FROM (SELECT DISTINCT topic, key FROM blocked WHERE key <> ''))`).
		Scan(&stats.Pending.N, &stats.Delayed.N, &stats.Dead.N, &age, &stats.BlockedKeys)
	for _, c := range []*core.Count{&stats.Pending, &stats.Delayed, &stats.Dead} {
		c.Exact = c.N <= most
	}
	stats.OldestAge = time.Duration(max(0, age)) * time.Millisecond
	return stats, err
}
