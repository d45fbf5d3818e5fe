package mysql

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

var _ core.ArchiveStore = (*session)(nil)

// everyTopic is what a configuration says instead of naming them all.
const everyTopic = "*"

// intoArchive is the statement that copies the records to be kept, before they are removed in the same transaction; empty
// where none are. It locks them, so that what is copied is what is removed. What is there already was moved by another
// relay, or before a restore.
func (s *session) intoArchive(which string) string {
	topics := s.dialect.archive
	if len(topics) == 0 {
		return ""
	}
	if !slices.Contains(topics, everyTopic) {
		which += ` WHERE o.topic IN (` + list(topics, text) + `)`
	}
	return s.sql("INSERT INTO {archive} (position, id, topic, `key`, headers, payload, created_at, attempts)\n"+
		"SELECT o.position, o.id, o.topic, o.`key`, o.headers, o.payload, o.created_at, o.attempts FROM ") + which + s.forUpdate("o") + s.sql(` ON DUPLICATE KEY UPDATE position = {archive}.position`)
}

// archived is the condition for what matches filter and comes after after.
func archived(filter core.ArchiveFilter, after core.Ref) string {
	condition := equals(` WHERE `+behind(after), filter.ID, filter.Topic, filter.Key)
	if !filter.From.IsZero() {
		condition += ` AND created_at >= '` + datetime(filter.From) + `'`
	}
	if !filter.To.IsZero() {
		condition += ` AND created_at < '` + datetime(filter.To) + `'`
	}
	return condition
}

// ListArchived implements [core.ArchiveStore].
func (s *session) ListArchived(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
	var events []core.ArchivedEvent
	err := s.read(ctx, s.sql("SELECT position, id, topic, `key`, headers, payload, "+micros("created_at")+`, attempts, `+
		micros("delivered_at")+` FROM {archive}`)+archived(filter, after)+` ORDER BY position, id LIMIT `+integer(limit),
		func(rows *sqlx.Rows) error {
			var e core.ArchivedEvent
			var object []byte
			var createdAt, deliveredAt int64
			m := &e.Message
			err := rows.Scan(&e.Position, &m.ID, &m.Topic, &m.Key, &object, &m.Payload, &createdAt, &e.Attempts, &deliveredAt)
			m.Headers, m.EnqueuedAt, e.DeliveredAt = headers.OfRow(object), time.UnixMicro(createdAt), time.UnixMicro(deliveredAt)
			events = append(events, e)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("list archived events: %w", err)
	}
	return events, nil
}

// Replay implements [core.ArchiveStore]. It finds the last event to copy, and then copies up to it.
func (s *session) Replay(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) (n int, last core.Ref, err error) {
	which := archived(filter, after)
	picked, err := s.pick(ctx, `SELECT position, id FROM (`+s.sql(`SELECT position, id FROM {archive}`)+which+` ORDER BY position, id LIMIT `+
		integer(limit)+`) AS picked ORDER BY position DESC, id DESC LIMIT 1`)
	if err != nil {
		return 0, core.Ref{}, fmt.Errorf("look for archived events: %w", err)
	}
	if len(picked) == 0 {
		return 0, after, nil
	}
	last = picked[0]
	err = s.write(ctx, s.sql("INSERT INTO {outbox} (id, topic, `key`, headers, payload)\n"+
		"SELECT id, topic, `key`, headers, payload FROM {archive}")+which+` AND NOT `+behind(last)+` ORDER BY position, id;
SET @n = ROW_COUNT(); `+s.sql(`UPDATE {control} SET generation = generation + 1 WHERE one = 1`), "@n", &n)
	if err != nil {
		return 0, core.Ref{}, fmt.Errorf("replay archived events: %w", err)
	}
	return n, last, nil
}

// Purge implements [core.ArchiveStore].
func (s *session) Purge(ctx context.Context, olderThan time.Duration, limit int) (int, error) {
	purged := 0
	for _, of := range []struct{ table, since string }{{"{archive}", "delivered_at"}, {"{dead}", "dropped_at"}} {
		n, err := s.purge(ctx, of.table, of.since, olderThan, limit)
		if err != nil {
			return 0, fmt.Errorf("purge: %w", err)
		}
		purged += n
	}
	return purged, nil
}

// purge finds what is oldest by the index on its age, and removes it by the primary key.
func (s *session) purge(ctx context.Context, table, since string, olderThan time.Duration, limit int) (purged int, err error) {
	old := since + ` <= ` + later(-olderThan)
	refs, err := s.pick(ctx, `SELECT position, id FROM `+s.sql(table)+` WHERE `+old+` ORDER BY `+since+`, position, id LIMIT `+integer(limit))
	if err != nil {
		return 0, err
	}
	refs = ascending(refs, func(r core.Ref) int64 { return r.Position })
	for chunk := range slices.Chunk(refs, maxRefs) {
		n := 0
		err := s.write(ctx, `DELETE t FROM `+s.these(table, "t", chunk)+` WHERE t.`+old+`; SET @n = ROW_COUNT()`, "@n", &n)
		if err != nil {
			return 0, err
		}
		purged += n
	}
	return purged, nil
}
