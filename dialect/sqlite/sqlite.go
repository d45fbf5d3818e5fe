// Package sqlite keeps a Lockstep outbox in a SQLite file, through modernc.org/sqlite (no C compiler needed).
//
// SQLite has one writer at a time. [Dialect.DB] is one connection that begins every transaction with BEGIN IMMEDIATE:
// an application and a relay in one process share it and wait their turn in Go, which is both faster and fairer than
// several connections that poll for the file's lock. The relay reads over a connection of its own.
//
// Programs in any language may insert into the outbox. A row whose headers are no JSON object, which a CHECK refuses, is
// delivered all the same: with one header, lockstep-undecodable-headers, that holds the column's text.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/sqlname"
)

// now is the clock, in the milliseconds since 1970 that every time is kept in. It stands still during a statement.
const now = `CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`

// busyTimeout is how long the application's transactions wait for another process, in milliseconds.
const busyTimeout = "10000"

var (
	_ core.Dialect   = (*Dialect)(nil)
	_ core.KeyLocker = (*Dialect)(nil)
)

// Config sets where the outbox is. Its zero value works.
type Config struct {
	// Prefix is put before the name of each table: with "shop_" the outbox is shop_outbox. Letters, digits and
	// underscores. Defaults to none.
	Prefix string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error { return sqlname.Check("Prefix", c.Prefix) }

// Dialect is a SQLite file with an outbox in it. Safe for concurrent use.
type Dialect struct {
	writer *sqlx.DB
	reader *sqlx.DB
	prefix string
	names  *strings.Replacer
}

// Open opens the SQLite file at path, which is created when it is missing. The file is in WAL mode and every commit is
// synced to disk (synchronous=FULL), so that a power loss takes no committed event. Call [Dialect.Migrate] before the
// first use, and Close at the end.
func Open(path string, config Config) (*Dialect, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("sqlite config: %w", err)
	}
	if path == "" || strings.Contains(path, ":memory:") {
		return nil, errors.New("sqlite: the outbox needs a file: give its path")
	}
	d := &Dialect{prefix: config.Prefix, names: tableNames(config.Prefix)}
	var err error
	if d.writer, err = open(path, "&_txlock=immediate"); err != nil {
		return nil, err
	}
	d.writer.SetMaxOpenConns(1)
	if d.reader, err = open(path, "&_pragma=query_only(1)"); err != nil {
		return nil, errors.Join(err, d.writer.Close())
	}
	return d, nil
}

func open(path, extra string) (*sqlx.DB, error) {
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	db, err := sqlx.Open("sqlite", "file:"+escaped+
		"?_pragma=busy_timeout("+busyTimeout+")&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+extra)
	if err != nil {
		return nil, fmt.Errorf("open sqlite file: %w", err)
	}
	return db, nil
}

// tableNames puts the quoted names of the tables in the place of {outbox} and so on.
func tableNames(prefix string) *strings.Replacer {
	pairs := []string{"{now}", now}
	for placeholder, name := range map[string]string{
		"{outbox}": "outbox", "{dead}": "outbox_dead", "{delayed}": "outbox_delayed", "{control}": "outbox_control",
		"{lease}": "outbox_lease", "{blocked}": "outbox_blocked", "{delayed_due}": "outbox_delayed_due",
	} {
		pairs = append(pairs, placeholder, `"`+prefix+name+`"`)
	}
	return strings.NewReplacer(pairs...)
}

// DB returns the process's one writing connection, for the application's own tables and transactions.
func (d *Dialect) DB() *sql.DB { return d.writer.DB }

// Close closes the file.
func (d *Dialect) Close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

// Retryable implements [core.Dialect]: another connection writes, or has written since this one read. Of the last kind
// (SQLITE_BUSY_SNAPSHOT) no waiting helps, only another transaction.
func (d *Dialect) Retryable(err error) bool {
	const busy = 5 // and its extended codes, whose low byte it is
	var coded interface{ Code() int }
	return errors.As(err, &coded) && coded.Code()&0xff == busy
}

// LockKeys implements [core.KeyLocker]. It has nothing to do: a transaction that writes is the only one.
func (d *Dialect) LockKeys(context.Context, core.Execer, []core.Message) error { return nil }
