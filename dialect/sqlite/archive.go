package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

var _ core.ArchiveStore = (*session)(nil)

// everyTopic in Config.Archive stands for all of them.
const everyTopic = "*"

// checkArchive reports names that are no topics.
func checkArchive(topics []string) error {
	if slices.Contains(topics, "") {
		return errors.New(`Archive: "" is no topic: name one, or "*" for every topic`)
	}
	return nil
}

// archive copies the events that are kept; whoever calls it deletes them in the same transaction.
func (w writing) archive(refs []core.Ref) error {
	topics := w.session.dialect.archive
	if len(topics) == 0 {
		return nil
	}
	condition, kept := ``, []any(nil)
	if !slices.Contains(topics, everyTopic) {
		condition = ` AND topic IN (?` + strings.Repeat(`, ?`, len(topics)-1) + `)`
		for _, topic := range topics {
			kept = append(kept, topic)
		}
	}
	return w.named(refs, `INSERT INTO {archive} (position, id, topic, key, headers, payload, created_at, attempts)
SELECT position, id, topic, key, headers, payload, created_at, attempts FROM {outbox} WHERE position IN ({named})`+condition+`
ON CONFLICT DO NOTHING`, kept...)
}

// archived is the condition for the archived events that match filter and come after after, and its arguments.
func archived(filter core.ArchiveFilter, after core.Ref) (condition string, args []any) {
	condition, args = ` WHERE (position, id) > (?, ?)`, []any{after.Position, after.ID}
	add := func(set bool, test string, value any) {
		if set {
			condition, args = condition+` AND `+test, append(args, value)
		}
	}
	add(filter.ID != "", "id = ?", filter.ID)
	add(filter.Topic != "", "topic = ?", filter.Topic)
	add(filter.Key != "", "key = ?", filter.Key)
	add(!filter.From.IsZero(), "created_at >= ?", ceilMilli(filter.From))
	add(!filter.To.IsZero(), "created_at < ?", ceilMilli(filter.To))
	return condition, args
}

// ListArchived implements [core.ArchiveStore].
func (s *session) ListArchived(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
	condition, args := archived(filter, after)
	var events []core.ArchivedEvent
	err := s.query(ctx, `SELECT position, id, topic, key, headers, payload, created_at, attempts, delivered_at
FROM {archive}`+condition+` ORDER BY position, id LIMIT ?`, append(args, limit), func(rows *sqlx.Rows) (bool, error) {
		var e core.ArchivedEvent
		var object []byte
		var createdAt, deliveredAt int64
		m := &e.Message
		err := rows.Scan(&e.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &createdAt, &e.Attempts, &deliveredAt)
		if err != nil {
			return false, err
		}
		m.Headers, m.EnqueuedAt, e.DeliveredAt = headers.OfRow(object), time.UnixMilli(createdAt), time.UnixMilli(deliveredAt)
		events = append(events, e)
		return true, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list archived events: %w", err)
	}
	return events, nil
}

// Replay implements [core.ArchiveStore]. The copies are enqueued now: their age counts from here.
func (s *session) Replay(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) (n int, last core.Ref, err error) {
	condition, args := archived(filter, after)
	err = s.write(ctx, "replay archived events", func(w writing) error {
		var picked []core.Ref
		err := w.tx.SelectContext(ctx, &picked, s.sql(`SELECT position, id FROM {archive}`+condition+` ORDER BY position, id LIMIT ?`),
			append(args, limit)...)
		n = len(picked)
		if err != nil || n == 0 {
			return err
		}
		last = picked[n-1]
		err = w.each(n, `INSERT INTO {outbox} (id, topic, key, headers, payload)
SELECT id, topic, key, headers, payload FROM {archive} WHERE position = ? AND id = ?`,
			func(i int) []any { return []any{picked[i].Position, picked[i].ID} })
		if err != nil {
			return err
		}
		return w.bump()
	})
	if err != nil {
		return 0, core.Ref{}, err
	}
	return n, last, nil
}

// Purge implements [core.ArchiveStore].
func (s *session) Purge(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	age := ceilMilliseconds(olderThan)
	err = s.write(ctx, "purge what is old", func(w writing) error {
		delivered, err := w.exec(purgeArchive, age, limit)
		if err != nil {
			return err
		}
		dropped, err := w.exec(purgeDead, age, limit)
		n = int(delivered + dropped)
		return err
	})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// The age and the limit of each are arguments. Both read by an index on the age.
const (
	purgeArchive = `DELETE FROM {archive} WHERE rowid IN (
  SELECT rowid FROM {archive} WHERE delivered_at <= {now} - ? ORDER BY delivered_at LIMIT ?)`

	purgeDead = `DELETE FROM {dead} WHERE rowid IN (
  SELECT rowid FROM {dead} WHERE dropped_at IS NOT NULL AND dropped_at <= {now} - ? ORDER BY dropped_at LIMIT ?)`
)
