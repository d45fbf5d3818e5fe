package sqlite

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
)

// maxArgs is how many arguments SQLite takes in one statement.
const maxArgs = 32_766

// Enqueue implements [core.Dialect]. It is one statement for the events that are due and one for those that are not,
// unless they are more than fit.
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	isDelayed := func(m core.Message) bool { return !m.NotBefore.IsZero() }
	if !slices.ContainsFunc(msgs, isDelayed) {
		return d.insert(ctx, tx, msgs, false)
	}
	var due, delayed []core.Message
	for _, m := range msgs {
		if isDelayed(m) {
			delayed = append(delayed, m)
		} else {
			due = append(due, m)
		}
	}
	if err := d.insert(ctx, tx, due, false); err != nil {
		return err
	}
	return d.insert(ctx, tx, delayed, true)
}

func (d *Dialect) insert(ctx context.Context, tx core.Execer, msgs []core.Message, delayed bool) error {
	into, row := `INSERT INTO {outbox} (id, topic, key, headers, payload) VALUES `, `(?,?,?,?,?)`
	if delayed {
		into, row = `INSERT INTO {delayed} (id, topic, key, headers, payload, not_before) VALUES `, `(?,?,?,?,?,?)`
	}
	perRow := strings.Count(row, "?")
	for chunk := range slices.Chunk(msgs, maxArgs/perRow) {
		args := make([]any, 0, perRow*len(chunk))
		for _, m := range chunk {
			encoded, err := headers.Encode(m.Headers)
			if err != nil {
				return err
			}
			payload := m.Payload
			if payload == nil {
				payload = []byte{} // nil would be NULL
			}
			args = append(args, m.ID, m.Topic, m.Key, encoded, payload)
			if delayed {
				args = append(args, ceilMilli(m.NotBefore))
			}
		}
		query := d.names.Replace(into) + row + strings.Repeat(`,`+row, len(chunk)-1)
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
	}
	return nil
}

// ceilMilli rounds up, so that nothing is early.
func ceilMilli(t time.Time) int64 {
	ms := t.UnixMilli()
	if t.Nanosecond()%int(time.Millisecond) != 0 {
		ms++
	}
	return ms
}
