// Package sqlite keeps a Lockstep outbox in a SQLite file, through modernc.org/sqlite (no C compiler needed).
//
// SQLite has one writer at a time. [Dialect.DB] is one connection that begins every transaction with BEGIN IMMEDIATE:
// an application and a relay in one process share it and wait their turn in Go, which is both faster and fairer than
// several connections that poll for the file's lock. The relay reads over a connection of its own.
package sqlite

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	_ "modernc.org/sqlite" // the driver

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
	"github.com/lockstep-go/lockstep/internal/sqlname"
)

// maxRows keeps a statement under SQLite's 32 766 parameters.
const maxRows = 32_766 / 5

//go:embed schema.sql
var schema string

var _ core.Dialect = (*Dialect)(nil)

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
	outbox string // the table's quoted name
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
	d := &Dialect{outbox: `"` + config.Prefix + `outbox"`}
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
		"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+extra)
	if err != nil {
		return nil, fmt.Errorf("open sqlite file: %w", err)
	}
	return db, nil
}

// DB returns the process's one writing connection, for the application's own tables and transactions.
func (d *Dialect) DB() *sql.DB { return d.writer.DB }

// Close closes the file.
func (d *Dialect) Close() error { return errors.Join(d.reader.Close(), d.writer.Close()) }

// Migrate creates the outbox table when it is missing. Concurrent callers are safe.
func (d *Dialect) Migrate(ctx context.Context) error {
	if _, err := d.writer.ExecContext(ctx, strings.ReplaceAll(schema, "{outbox}", d.outbox)); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// Enqueue implements [core.Dialect].
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	for len(msgs) > 0 {
		n := min(len(msgs), maxRows)
		args := make([]any, 0, 5*n)
		for _, m := range msgs[:n] {
			encoded, err := headers.Encode(m.Headers)
			if err != nil {
				return err
			}
			payload := m.Payload
			if payload == nil {
				payload = []byte{} // nil would be NULL
			}
			args = append(args, m.ID, m.Topic, m.Key, encoded, payload)
		}
		query := `INSERT INTO ` + d.outbox + ` (id, topic, key, headers, payload) VALUES (?,?,?,?,?)` +
			strings.Repeat(`,(?,?,?,?,?)`, n-1)
		if _, err := tx.ExecContext(ctx, query, args...); err != nil {
			return fmt.Errorf("insert events: %w", err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// Open implements [core.Dialect].
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	conn, err := d.reader.Connx(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{dialect: d, conn: conn}, nil
}

// session reads over a connection of its own and writes over the process's one writer: a second writing connection
// would make the application wait for the file's lock instead of its turn.
type session struct {
	dialect *Dialect
	conn    *sqlx.Conn
}

type row struct {
	Position  int64  `db:"position"`
	ID        string `db:"id"`
	Topic     string `db:"topic"`
	Key       string `db:"key"`
	Headers   []byte `db:"headers"`
	Payload   []byte `db:"payload"`
	CreatedAt int64  `db:"created_at"`
}

func (s *session) Fetch(ctx context.Context, limit int) ([]core.Record, error) {
	var rows []row
	err := s.conn.SelectContext(ctx, &rows,
		`SELECT position, id, topic, key, headers, payload, created_at FROM `+s.dialect.outbox+` ORDER BY position LIMIT ?`, limit)
	if err != nil {
		return nil, fmt.Errorf("select events: %w", err)
	}
	records := make([]core.Record, len(rows))
	for i, r := range rows {
		h, err := headers.Decode(r.Headers)
		if err != nil {
			return nil, fmt.Errorf("event at position %d: %w", r.Position, err)
		}
		records[i] = core.Record{
			Position:  r.Position,
			Message:   core.Message{ID: r.ID, Topic: r.Topic, Key: r.Key, Headers: h, Payload: r.Payload},
			CreatedAt: time.UnixMilli(r.CreatedAt),
		}
	}
	return records, nil
}

func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	tx, err := s.dialect.writer.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	stmt, err := tx.PreparexContext(ctx, `DELETE FROM `+s.dialect.outbox+` WHERE position = ? AND id = ?`)
	if err != nil {
		return fmt.Errorf("prepare delete: %w", err)
	}
	defer stmt.Close()
	for _, ref := range refs {
		if _, err := stmt.ExecContext(ctx, ref.Position, ref.ID); err != nil {
			return fmt.Errorf("delete event: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func (s *session) Close() error { return s.conn.Close() }
