package sqlite

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// schemaVersion is what this package writes and reads. It grows with each change of schema.sql.
const schemaVersion = 1

//go:embed schema.sql
var schema string

var errNotMigrated = errors.New("there is no outbox in the file: run Migrate (`lockstep migrate`) first, with the same prefix")

// Migrate creates what is missing of the outbox's tables. Concurrent callers are safe.
func (d *Dialect) Migrate(ctx context.Context) error {
	return d.write(ctx, "migrate", func(tx *sqlx.Tx) error {
		err := d.check(ctx, tx)
		if !errors.Is(err, errNotMigrated) {
			return err
		}
		if _, err := tx.ExecContext(ctx, d.names.Replace(schema)); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, d.names.Replace(`INSERT INTO {control} (outbox, schema_version) VALUES (?, ?)`), core.NewID(), schemaVersion)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, d.names.Replace(`INSERT INTO {lease} DEFAULT VALUES`))
		return err
	})
}

// check says whether this package can work with the outbox that the file holds.
func (d *Dialect) check(ctx context.Context, q sqlx.QueryerContext) error {
	var exists bool
	err := sqlx.GetContext(ctx, q, &exists, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?)`, d.prefix+"outbox_control")
	switch {
	case err != nil:
		return err
	case !exists:
		return errNotMigrated
	}
	var version int
	if err := sqlx.GetContext(ctx, q, &version, d.names.Replace(`SELECT schema_version FROM {control}`)); err != nil {
		return err
	}
	if version != schemaVersion {
		return fmt.Errorf("the outbox has schema version %d and this program needs %d: run Migrate with the newest release, "+
			"then update the programs that use the outbox", version, schemaVersion)
	}
	return nil
}
