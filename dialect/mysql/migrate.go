package mysql

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"hash/crc32"
	"path"
	"strings"

	"github.com/lockstep-go/lockstep/core"
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

// tableOptions hold for both databases: each takes the other's collation for a comment. They are the same one, bytewise and
// with every space.
const tableOptions = `ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARSET=utf8mb4` +
	` /*!80017 COLLATE=utf8mb4_0900_bin */ /*M!100600 COLLATE=utf8mb4_nopad_bin */`

// ddl is a migration's statements.
func (d *Dialect) ddl(m migration) string {
	return strings.ReplaceAll(d.names.Replace(m.sql), "{options}", tableOptions)
}

// Schema returns the SQL that Migrate executes on an empty database, for people who keep their schema with another tool:
// each migration behind a comment with its name, in order. An outbox that has a part of them already needs the rest, and
// [Dialect.Check] says which those are.
func (d *Dialect) Schema() string {
	var text strings.Builder
	for _, m := range migrations {
		fmt.Fprintf(&text, "-- %s\n%s\n", m.file, d.ddl(m))
	}
	return text.String()
}

// Grants returns the SQL that gives two users what they need and no more: application enqueues, in transactions of its own,
// and relay delivers. An operator's commands need what the relay needs. A name may have a host, as in app@10.0.0.1; without
// one it is that of every host. No name, no grants.
func (d *Dialect) Grants(application, relay string) string {
	var grants strings.Builder
	grant := func(privileges, table, user string) {
		if user == "" {
			return
		}
		fmt.Fprintf(&grants, "GRANT %s ON %s TO %s;\n", privileges, d.names.Replace(table), account(user))
	}
	grant("INSERT", "{outbox}", application)
	grant("INSERT", "{delayed}", application)
	grant("SELECT, UPDATE", "{key_lock}", application)
	for _, table := range tables {
		if table != "outbox_key_lock" {
			grant("SELECT, INSERT, UPDATE, DELETE", "{"+strings.TrimPrefix(table, "outbox_")+"}", relay)
		}
	}
	if relay == "" {
		return grants.String()
	}
	fmt.Fprintf(&grants, "-- Optional: shows the relay that a rolled back position will not be filled while others write without a pause.\n"+
		"-- GRANT PROCESS ON *.* TO %s;\n", account(relay))
	return grants.String()
}

// account quotes a user's name and host.
func account(user string) string {
	name, host := user, "%"
	if at := strings.LastIndex(user, "@"); at >= 0 {
		name, host = user[:at], user[at+1:]
	}
	quote := func(s string) string {
		return "'" + strings.NewReplacer(`\`, `\\`, `'`, `''`, "\n", " ").Replace(strings.Trim(s, "'`")) + "'"
	}
	return quote(name) + "@" + quote(host)
}

// Migrate brings the outbox's tables to the version of this program, creating what is missing. Concurrent callers, in
// several processes, are safe: one migrates and the others find it done. Where nothing is missing, it needs no privilege to
// create. It alters no table that applications write to without saying so in the release's notes.
func (d *Dialect) Migrate(ctx context.Context) error {
	s, err := d.connect(ctx)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	err = s.server.faults()
	if err == nil {
		err = s.migrate(ctx)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// migrate runs what is missing under a lock of the server's, which ends with the connection: each statement that defines
// something is a transaction by itself. One that was interrupted is run again from its beginning.
func (s *session) migrate(ctx context.Context) error {
	have, err := s.version(ctx)
	if err != nil || have == len(migrations) {
		return err
	}
	lock := text(fmt.Sprintf("lockstep migrate %08x", crc32.ChecksumIEEE([]byte(s.sql("{control}")))))
	for locked := false; !locked; { // each wait is short, so that the server does not go on waiting for a client that left
		if err := s.readRow(ctx, `SELECT COALESCE(GET_LOCK(`+lock+`, 1), 0)`, &locked); err != nil {
			return fmt.Errorf("wait for another migration: %w", err)
		}
	}
	if have, err = s.version(ctx); err != nil {
		return err
	}
	if have > len(migrations) {
		return s.dialect.versionFault(have)
	}
	for _, m := range migrations[have:] {
		if err := s.read(ctx, s.dialect.ddl(m)+"SELECT 1", nil); err != nil {
			return fmt.Errorf("%s: %w", m.file, err)
		}
	}
	return s.readRow(ctx, `SELECT RELEASE_LOCK(`+lock+`)`, new(any))
}

// version is the schema's; 0 where there is none.
func (s *session) version(ctx context.Context) (version int, err error) {
	var exists bool
	err = s.readRow(ctx, `SELECT COUNT(*) > 0 FROM information_schema.tables WHERE table_schema = `+text(s.dialect.database)+
		` AND table_name = `+text(s.dialect.table("control")), &exists)
	if err != nil || !exists {
		return 0, err
	}
	err = s.readRow(ctx, s.sql(`SELECT COALESCE(MAX(schema_version), 0) FROM {control}`), &version)
	return version, err
}

func (d *Dialect) notMigrated() error { return d.versionFault(0) }

func (d *Dialect) versionFault(have int) error {
	want := len(migrations)
	switch {
	case have == 0:
		return &core.SetupError{
			Problem: fmt.Sprintf("there is no outbox (no table %s in the database %s)", d.table("control"), d.database),
			Cure:    "run Migrate (`lockstep migrate`) first, with the same database and prefix",
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
