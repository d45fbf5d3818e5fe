package postgres

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// Unblock implements [core.OperatorStore].
func (s *session) Unblock(ctx context.Context, topic, key string) (bool, error) {
	if key == "" {
		return false, nil // no key: that row would be a paused topic's
	}
	changed, err := s.changeBlocked(ctx, s.sql(`DELETE FROM {blocked} WHERE topic = `)+text(topic)+` AND key = `+text(key))
	if err != nil {
		return false, fmt.Errorf("unblock a key: %w", err)
	}
	return changed, nil
}

// ListBlocked implements [core.OperatorStore].
func (s *session) ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]core.BlockedKey, error) {
	var keys []core.BlockedKey
	err := s.query(ctx, s.sql(`SELECT DISTINCT ON (topic, key) topic, key, position, since FROM {blocked} WHERE (topic, key) > (`)+
		text(afterTopic)+`, `+text(afterKey)+`) ORDER BY topic, key, position LIMIT `+integer(limit),
		func(rows *sqlx.Rows) error {
			var k core.BlockedKey
			err := rows.Scan(&k.Topic, &k.Key, &k.Position, &k.Since)
			keys = append(keys, k)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list blocked keys: %w", err)
	}
	return keys, nil
}

// PauseTopic implements [core.OperatorStore]: by a row without a key.
func (s *session) PauseTopic(ctx context.Context, topic string) (bool, error) {
	changed, err := s.changeBlocked(ctx, s.sql(`INSERT INTO {blocked} (topic, key, position) VALUES (`)+text(topic)+`, '', 0)
  ON CONFLICT DO NOTHING`)
	if err != nil {
		return false, fmt.Errorf("pause a topic: %w", err)
	}
	return changed, nil
}

// ResumeTopic implements [core.OperatorStore].
func (s *session) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	changed, err := s.changeBlocked(ctx, s.sql(`DELETE FROM {blocked} WHERE key = '' AND topic = `)+text(topic))
	if err != nil {
		return false, fmt.Errorf("resume a topic: %w", err)
	}
	return changed, nil
}

// changeBlocked reports whether the change, of rows of the blocked keys, found any, and tells the readers then.
func (s *session) changeBlocked(ctx context.Context, change string) (bool, error) {
	n := 0
	err := s.queryRow(ctx, s.sql(oneByOne)+`WITH changed AS (`+change+` RETURNING position), `+s.sql(`bumped AS (
  UPDATE {control} SET generation = generation + 1 WHERE EXISTS (SELECT FROM changed)
)
SELECT count(*) FROM changed`), &n)
	return n > 0, err
}
