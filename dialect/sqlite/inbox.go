package sqlite

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.InboxStore = (*Dialect)(nil)

//go:embed inbox.sql
var inboxSchema string

// Receive implements [core.InboxStore]. It names the key, so that a table without it is an error and not an inbox that
// forgets.
func (d *Dialect) Receive(ctx context.Context, tx core.Execer, consumer, id string) (first bool, err error) {
	result, err := tx.ExecContext(ctx, d.names.Replace(`INSERT INTO {inbox} (consumer, id) VALUES (?, ?) ON CONFLICT (consumer, id) DO NOTHING`), consumer, id)
	if err != nil {
		return false, fmt.Errorf("insert into the inbox (made by MigrateInbox): %w", err)
	}
	if result == nil {
		return false, core.ErrNoResult
	}
	inserted, err := result.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("insert into the inbox: %w", err)
	}
	return inserted == 1, nil
}

// The age and the limit are arguments. It reads by the index on the age.
const forget = `DELETE FROM {inbox} WHERE (consumer, id) IN (
  SELECT consumer, id FROM {inbox} WHERE received_at <= {now} - ? ORDER BY received_at LIMIT ?)`

// Forget implements [core.InboxStore].
func (d *Dialect) Forget(ctx context.Context, olderThan time.Duration, limit int) (n int, err error) {
	err = d.write(ctx, "forget what was received", func(tx *sqlx.Tx) error {
		result, err := tx.ExecContext(ctx, d.names.Replace(forget), ceilMilliseconds(olderThan), limit)
		if err != nil {
			return err
		}
		gone, err := result.RowsAffected()
		n = int(gone)
		return err
	})
	if err != nil {
		return 0, explained(err)
	}
	return n, nil
}

// MigrateInbox implements [core.InboxStore].
func (d *Dialect) MigrateInbox(ctx context.Context) error {
	return explained(d.write(ctx, "migrate the inbox", func(tx *sqlx.Tx) error {
		columns, own := 0, 0
		err := tx.QueryRowContext(ctx, `SELECT count(*), count(CASE WHEN name IN ('consumer', 'id', 'received_at') THEN 1 END) FROM pragma_table_info(?)`,
			d.prefix+"inbox").Scan(&columns, &own)
		if err != nil {
			return err
		}
		if columns > 0 && own < 3 {
			return &core.SetupError{Problem: `the table "` + d.prefix + `inbox" is not an inbox`, Cure: "give the dialect a Prefix of its own"}
		}
		_, err = tx.ExecContext(ctx, d.InboxSchema())
		return err
	}))
}

// InboxSchema returns the statements with which [Dialect.MigrateInbox] creates the inbox's table.
func (d *Dialect) InboxSchema() string { return schemaNames(d.prefix).Replace(inboxSchema) }
