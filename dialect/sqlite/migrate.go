package sqlite

import (
	"context"
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/jmoiron/sqlx"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration takes the schema from version-1 to version, which its last statement writes down.
type migration struct {
	version int
	file    string
	sql     string
}

// migrations ascend by version, from 1. One that was released is never changed.
var migrations = readMigrations()

func readMigrations() []migration {
	files, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		panic(err) // they are part of the program
	}
	var all []migration
	for i, file := range files {
		text, err := migrationFiles.ReadFile(path.Join("migrations", file.Name()))
		if err != nil {
			panic(err)
		}
		all = append(all, migration{version: i + 1, file: file.Name(), sql: string(text)})
	}
	return all
}

// Schema returns the SQL that Migrate executes on an empty file, for people who keep their schema with another tool: each
// migration behind a comment with its name, in order. All of one are for one transaction. An outbox that has a part of
// them already needs the rest, and [Dialect.Check] says which those are.
func (d *Dialect) Schema() string {
	var text strings.Builder
	for _, m := range migrations {
		fmt.Fprintf(&text, "-- %s\n%s\n", m.file, schemaNames(d.prefix).Replace(m.sql))
	}
	return text.String()
}

// Grants returns a comment: SQLite has no roles. Whoever may write the file may do everything to it.
func (d *Dialect) Grants(application, relay string) string {
	return fmt.Sprintf("-- SQLite has no roles: the users that %s and %s run as need to read and write the file, its -wal and -shm,\n"+
		"-- and to create files in its directory. Nobody else needs access to them.\n", oneLine(application), oneLine(relay))
}

// oneLine keeps a name inside the comment.
func oneLine(name string) string { return strings.Join(strings.Fields(name), " ") }

// Migrate brings the outbox's tables to the version of this program, creating what is missing. Concurrent callers, in
// several processes, are safe: one migrates and the others find it done. It is one short transaction, that touches the
// outbox's tables only.
func (d *Dialect) Migrate(ctx context.Context) error {
	return explained(d.write(ctx, "migrate", func(tx *sqlx.Tx) error {
		have, err := d.version(ctx, tx)
		if err != nil {
			return err
		}
		if have > len(migrations) {
			return d.versionFault(have)
		}
		for _, m := range migrations[have:] {
			if _, err := tx.ExecContext(ctx, schemaNames(d.prefix).Replace(m.sql)); err != nil {
				return fmt.Errorf("%s: %w", m.file, err)
			}
		}
		return d.missing(ctx, tx)
	}))
}
