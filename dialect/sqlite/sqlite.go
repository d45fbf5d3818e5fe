// Package sqlite keeps a Lockstep outbox in a SQLite file, through modernc.org/sqlite (no C compiler needed).
//
// SQLite has one writer at a time. [Dialect.DB] is one connection that begins every transaction with BEGIN IMMEDIATE:
// an application and a relay in one process share it and wait their turn in Go, which is both faster and fairer than
// several connections that poll for the file's lock. Between processes these connections take turns, which SQLite's own
// way of waiting does not make sure of. The relay reads over a connection of its own. An application that
// brings its own pool hands Enqueue that pool's transactions, and asks [Dialect.CheckDB] at its start whether they will do.
//
// A transaction that stays open for reading keeps the file's WAL from shrinking, and does not slow the relay down. The
// file belongs on a local disk: SQLite's locks do not hold on network file systems, which cannot be told from others.
//
// Programs in any language may insert into the outbox. A row whose headers are no JSON object, which a CHECK refuses, is
// delivered all the same: with one header, lockstep-undecodable-headers, that holds the column's text.
package sqlite

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/pace"
	"github.com/lockstep-go/lockstep/internal/sqlname"
)

// now is the clock, in the milliseconds since 1970 that every time is kept in. It stands still during a statement. The
// tables' defaults use it, so it is written for the libraries that programs in other languages bring: 'subsec' is too
// new for Debian 12.
const now = `CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)`

// busyPatience is how long the application's transactions wait for another process; busyTimeout says it in SQLite's words.
const (
	busyPatience = 10 * time.Second
	busyTimeout  = "10000"
)

var (
	_ core.Dialect   = (*Dialect)(nil)
	_ core.KeyLocker = (*Dialect)(nil)
	_ core.Listener  = (*Dialect)(nil)
)

// Config sets where the outbox is, and what becomes of delivered events. Its zero value works.
type Config struct {
	// Prefix is put before the name of each table: with "shop_" the outbox is shop_outbox. Letters, digits and
	// underscores. Defaults to none.
	Prefix string
	// Archive names the topics whose delivered events are kept in the archive, until they are purged; "*" is every
	// topic. Defaults to none: delivered events are deleted.
	Archive []string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	return errors.Join(sqlname.Check("Prefix", c.Prefix), checkArchive(c.Archive))
}

// Dialect is a SQLite file with an outbox in it. Safe for concurrent use.
type Dialect struct {
	source  source
	writer  *sqlx.DB
	reader  *sqlx.DB
	prefix  string
	archive []string
	names   *strings.Replacer

	promotions pace.Batch
}

// Open opens the SQLite file at path, which is created when it is missing; path may also be a file: URI. The file is in
// WAL mode and every commit is synced to disk (synchronous=FULL), so that a power loss takes no committed event. Call
// [Dialect.Migrate] before the first use, and Close at the end.
//
// For tests there are databases in memory that the connections of one process share: file:/NAME?vfs=memdb, or
// file:NAME?mode=memory&cache=shared. They know no snapshots: a relay waits for every transaction that writes.
func Open(path string, config Config) (*Dialect, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("sqlite config: %w", err)
	}
	from, err := parseSource(path)
	if err != nil {
		return nil, err
	}
	d := &Dialect{source: from, prefix: config.Prefix, archive: slices.Clone(config.Archive), names: tableNames(config.Prefix)}
	if d.writer, err = from.open("_txlock=immediate", func(c driver.Connector) driver.Connector { return turns{c} }); err != nil {
		return nil, err
	}
	d.writer.SetMaxOpenConns(1)
	if d.reader, err = from.open("_pragma=query_only(1)", nil); err != nil {
		return nil, errors.Join(err, d.writer.Close())
	}
	return d, nil
}

// DB returns the process's one writing connection, for the application's own tables and transactions.
func (d *Dialect) DB() *sql.DB { return d.writer.DB }

// Close closes the file.
func (d *Dialect) Close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

// Retryable implements [core.Dialect]: another connection writes, or has written since this one read. Of the last kind
// (SQLITE_BUSY_SNAPSHOT) no waiting helps, only another transaction.
func (d *Dialect) Retryable(err error) bool { return code(err) == codeBusy }

// LockKeys implements [core.KeyLocker]. It has nothing to do: a transaction that writes is the only one.
func (d *Dialect) LockKeys(context.Context, core.Execer, []core.Message) error { return nil }
