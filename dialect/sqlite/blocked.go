package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// Unblock implements [core.OperatorStore].
func (s *session) Unblock(ctx context.Context, topic, key string) (bool, error) {
	return s.changeBlocked(ctx, "unblock a key", `DELETE FROM {blocked} WHERE topic = ? AND key = ? AND key <> ''`, topic, key)
}

// PauseTopic implements [core.OperatorStore].
func (s *session) PauseTopic(ctx context.Context, topic string) (bool, error) {
	return s.changeBlocked(ctx, "pause a topic", `INSERT INTO {blocked} (topic, key, position) VALUES (?, '', 0) ON CONFLICT DO NOTHING`, topic)
}

// ResumeTopic implements [core.OperatorStore].
func (s *session) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	return s.changeBlocked(ctx, "resume a topic", `DELETE FROM {blocked} WHERE topic = ? AND key = ''`, topic)
}

// changeBlocked executes a statement and, where it changed anything, tells the readers.
func (s *session) changeBlocked(ctx context.Context, what, statement string, args ...any) (changed bool, err error) {
	err = s.write(ctx, what, func(w writing) error {
		n, err := w.exec(statement, args...)
		changed = n > 0
		if err != nil || !changed {
			return err
		}
		return w.bump()
	})
	return changed && err == nil, err
}

// ListBlocked implements [core.OperatorStore].
func (s *session) ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]core.BlockedKey, error) {
	var keys []core.BlockedKey
	// With one min(), SQLite takes the other columns from the row that holds it.
	err := s.query(ctx, `SELECT topic, key, min(position), since FROM {blocked} WHERE (topic, key) > (?, ?)
GROUP BY topic, key ORDER BY topic, key LIMIT ?`, []any{afterTopic, afterKey, limit}, func(rows *sqlx.Rows) (bool, error) {
		var k core.BlockedKey
		var since int64
		err := rows.Scan(&k.Topic, &k.Key, &k.Position, &since)
		k.Since = time.UnixMilli(since)
		keys = append(keys, k)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("list blocked keys: %w", err)
	}
	return keys, nil
}
