package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// Check reports why the file cannot hold or serve the outbox as it is, as [core.SetupError]s: it cannot be read or
// written, is not in WAL mode, lacks tables, has those of another version, or is locked by a transaction that does not
// end before ctx does. It changes nothing.
//
// It cannot see a network file system, on which SQLite's locks do not hold: the file belongs on a local disk.
func (d *Dialect) Check(ctx context.Context) error {
	if err := d.source.there(); err != nil {
		return err
	}
	return explained(d.write(ctx, "check the outbox", func(tx *sqlx.Tx) error {
		err := errors.Join(checkLibrary(ctx, tx), d.checkJournal(ctx, tx), d.checkSchema(ctx, tx))
		if err != nil {
			return err
		}
		// BEGIN IMMEDIATE is no proof: on a read-only file SQLite takes it for BEGIN.
		_, err = tx.ExecContext(ctx, d.names.Replace(`UPDATE {control} SET generation = generation WHERE false`))
		return err
	}))
}

// version is the schema's; 0 where there is none.
func (d *Dialect) version(ctx context.Context, q sqlx.QueryerContext) (version int, err error) {
	var exists bool
	err = sqlx.GetContext(ctx, q, &exists, `SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?)`,
		d.prefix+"outbox_control")
	if err != nil || !exists {
		return 0, err
	}
	err = sqlx.GetContext(ctx, q, &version, d.names.Replace(`SELECT ifnull(max(schema_version), 0) FROM {control}`))
	return version, err
}

func (d *Dialect) versionFault(have int) error {
	want := len(migrations)
	switch {
	case have == 0:
		return &core.SetupError{
			Problem: fmt.Sprintf("there is no outbox in the file (no table %soutbox_control)", d.prefix),
			Cure:    "run Migrate (`lockstep migrate`) first, with the same prefix",
		}
	case have < want:
		return &core.SetupError{
			Problem: fmt.Sprintf("the outbox has schema version %d and this program needs %d", have, want),
			Cure:    fmt.Sprintf("run Migrate (`lockstep migrate`), or apply %s from Schema", migrations[have].file),
		}
	case have > want:
		return &core.SetupError{
			Problem: fmt.Sprintf("the outbox has schema version %d, and this program knows only up to %d", have, want),
			Cure:    "update this program",
		}
	}
	return nil
}

// checkSchema says whether this program can work with the outbox that the file holds.
func (d *Dialect) checkSchema(ctx context.Context, q sqlx.QueryerContext) error {
	have, err := d.version(ctx, q)
	if err != nil {
		return err
	}
	if fault := d.versionFault(have); fault != nil {
		return fault
	}
	return d.missing(ctx, q)
}

// missing names the tables and indexes that are not there.
func (d *Dialect) missing(ctx context.Context, q sqlx.QueryerContext) error {
	var have []string
	if err := sqlx.SelectContext(ctx, q, &have, `SELECT name FROM main.sqlite_schema`); err != nil {
		return err
	}
	var missing []string
	for _, name := range slices.Concat(tables, indexes) {
		if !slices.Contains(have, d.prefix+name) {
			missing = append(missing, d.prefix+name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return &core.SetupError{
		Problem: "of the outbox, these are missing: " + strings.Join(missing, ", "),
		Cure:    "restore them from a backup, or create them as Schema (`lockstep migrate --print`) prints them",
	}
}

// oldestLibrary is the first with STRICT tables. It is for whoever enqueues; a relay's library is this program's.
const oldestLibrary = "3.37.0"

func checkLibrary(ctx context.Context, q sqlx.QueryerContext) error {
	var version string
	if err := sqlx.GetContext(ctx, q, &version, `SELECT sqlite_version()`); err != nil {
		return err
	}
	return libraryFault(version)
}

func libraryFault(version string) error {
	have, err := numbers(version)
	if err != nil {
		return fmt.Errorf("read SQLite's version %q: %w", version, err)
	}
	want, err := numbers(oldestLibrary)
	if err != nil {
		return err
	}
	if slices.Compare(have[:], want[:]) >= 0 {
		return nil
	}
	return &core.SetupError{
		Problem: fmt.Sprintf("SQLite is %s, and the outbox needs %s", version, oldestLibrary),
		Cure:    "update the driver that this program uses",
	}
}

func numbers(version string) (n [3]int, err error) {
	_, err = fmt.Sscanf(version, "%d.%d.%d", &n[0], &n[1], &n[2])
	return n, err
}

func (d *Dialect) checkJournal(ctx context.Context, q sqlx.QueryerContext) error {
	if d.source.memory {
		return nil
	}
	var mode string
	if err := sqlx.GetContext(ctx, q, &mode, `PRAGMA main.journal_mode`); err != nil {
		return err
	}
	if mode == "wal" {
		return nil
	}
	return &core.SetupError{
		Problem: fmt.Sprintf("the file's journal mode is %s, in which readers and writers wait for each other", mode),
		Cure:    "stop every process that uses the file and run `PRAGMA journal_mode=WAL` on it, on a local disk",
	}
}
