package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// bump tells the readers that the outbox changed under them, where @n things did. They are counted beforehand, under lock:
// ROW_COUNT() after a statement is -1 where the server could not send that statement's answer, and the rest of the
// transaction is executed all the same.
const bump = `UPDATE {control} SET generation = generation + 1 WHERE one = 1 AND @n > 0`

// Unblock implements [core.OperatorStore].
func (s *session) Unblock(ctx context.Context, topic, key string) (bool, error) {
	if key == "" {
		return false, nil // no key: that row would be a paused topic's
	}
	changed, err := s.unblock(ctx, topic, key)
	if err != nil {
		return false, fmt.Errorf("unblock a key: %w", err)
	}
	return changed, nil
}

// ResumeTopic implements [core.OperatorStore].
func (s *session) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	changed, err := s.unblock(ctx, topic, "")
	if err != nil {
		return false, fmt.Errorf("resume a topic: %w", err)
	}
	return changed, nil
}

func (s *session) unblock(ctx context.Context, topic, key string) (bool, error) {
	n := 0
	which := ` WHERE topic = ` + text(topic) + " AND `key` = " + text(key)
	err := s.write(ctx, s.sql(`SELECT COUNT(*) INTO @n FROM {blocked}`)+which+` FOR UPDATE; `+
		s.sql(`DELETE FROM {blocked}`)+which+`; `+s.sql(bump), "@n", &n)
	return n > 0, err
}

// PauseTopic implements [core.OperatorStore]: by a row without a key. No lock is on a row that is not there, so the control row's keeps
// another pause of the topic from finding the same.
func (s *session) PauseTopic(ctx context.Context, topic string) (bool, error) {
	n := 0
	err := s.write(ctx, s.sql(`SELECT COUNT(*) INTO @n FROM {control} WHERE one = 1 FOR UPDATE;
SELECT COUNT(*) = 0 INTO @n FROM {blocked} WHERE topic = `)+text(topic)+" AND `key` = '' FOR UPDATE; "+
		s.sql("INSERT IGNORE INTO {blocked} (topic, `key`, position) VALUES (")+text(topic)+`, '', 0); `+s.sql(bump), "@n", &n)
	if err != nil {
		return false, fmt.Errorf("pause a topic: %w", err)
	}
	return n > 0, nil
}

// ListBlocked implements [core.OperatorStore].
func (s *session) ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]core.BlockedKey, error) {
	var keys []core.BlockedKey
	err := s.read(ctx, s.sql("SELECT topic, `key`, position, "+micros("since")+" FROM {blocked} AS b WHERE (topic > ")+text(afterTopic)+
		` OR topic = `+text(afterTopic)+" AND `key` > "+text(afterKey)+
		s.sql(") AND position = (SELECT MIN(position) FROM {blocked} AS m WHERE m.topic = b.topic AND m.`key` = b.`key`)")+
		" ORDER BY topic, `key` LIMIT "+integer(limit), func(rows *sqlx.Rows) error {
		var k core.BlockedKey
		var since int64
		err := rows.Scan(&k.Topic, &k.Key, &k.Position, &since)
		k.Since = time.UnixMicro(since)
		keys = append(keys, k)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list blocked keys: %w", err)
	}
	return keys, nil
}
