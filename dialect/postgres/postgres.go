// Package postgres keeps a Lockstep outbox in PostgreSQL, through lib/pq.
package postgres

import (
	"context"
	"database/sql"
	"database/sql/driver"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/headers"
	"github.com/lockstep-go/lockstep/internal/sqlname"
)

// migrateLock serialises concurrent Migrate calls: CREATE TABLE IF NOT EXISTS alone fails in a race. An arbitrary
// number that stays the same for good ("lockstep" in ASCII).
const migrateLock = 0x6c6f636b73746570

//go:embed schema.sql
var schema string

var _ core.Dialect = (*Dialect)(nil)

// Config sets where the outbox is. Its zero value works.
type Config struct {
	// Schema is the PostgreSQL schema of the tables, which must exist. Defaults to the first of the search_path.
	Schema string
	// Prefix is put before the name of each table: with "shop_" the outbox is shop_outbox. Letters, digits and
	// underscores. Defaults to none.
	Prefix string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	return errors.Join(sqlname.Check("Schema", c.Schema), sqlname.Check("Prefix", c.Prefix))
}

// Dialect is a PostgreSQL database with an outbox in it. Safe for concurrent use.
type Dialect struct {
	db     *sqlx.DB
	outbox string // the table's quoted name
}

// Open returns the dialect for the database that dsn names (a postgres:// URL or lib/pq's key=value form). It connects
// when first used; an application that only enqueues, in transactions of its own pool, never does. Call
// [Dialect.Migrate] before the first use, and Close at the end.
func Open(dsn string, config Config) (*Dialect, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("postgres config: %w", err)
	}
	connector, err := pq.NewConnector(dsn)
	if err != nil {
		// The parser's own error quotes what it could not read, which may be the password.
		return nil, errors.New("postgres: the DSN is neither a postgres:// URL nor key=value pairs, or has a wrong value: " +
			"percent-encode special characters in a URL, quote them in pairs")
	}
	outbox := `"` + config.Prefix + `outbox"`
	if config.Schema != "" {
		outbox = `"` + config.Schema + `".` + outbox
	}
	return &Dialect{db: sqlx.NewDb(sql.OpenDB(connector), "postgres"), outbox: outbox}, nil
}

// Close closes the dialect's own connections.
func (d *Dialect) Close() error { return d.db.Close() }

// Migrate creates the outbox table when it is missing. Concurrent callers are safe.
func (d *Dialect) Migrate(ctx context.Context) error {
	tx, err := d.db.BeginTxx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: begin: %w", err)
	}
	defer tx.Rollback()
	for _, query := range []string{
		`SELECT pg_advisory_xact_lock(` + strconv.Itoa(migrateLock) + `)`,
		strings.ReplaceAll(schema, "{outbox}", d.outbox),
	} {
		if _, err := tx.ExecContext(ctx, query); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate: commit: %w", err)
	}
	return nil
}

// Enqueue implements [core.Dialect]. However many messages there are, they are one statement with five arguments.
// Those are strings in PostgreSQL's own array notation, which any driver passes on as they are.
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	n := len(msgs)
	ids, topics, keys := make([]string, n), make([]string, n), make([]string, n)
	encoded, payloads := make([]string, n), make([][]byte, n)
	for i, m := range msgs {
		var err error
		if encoded[i], err = headers.Encode(m.Headers); err != nil {
			return err
		}
		ids[i], topics[i], keys[i], payloads[i] = m.ID, m.Topic, m.Key, m.Payload
		if m.Payload == nil {
			payloads[i] = []byte{} // nil would be NULL
		}
	}
	args := make([]any, 0, 5)
	for _, array := range []driver.Valuer{
		pq.StringArray(ids), pq.StringArray(topics), pq.StringArray(keys), pq.StringArray(encoded), pq.ByteaArray(payloads),
	} {
		arg, err := array.Value()
		if err != nil {
			return fmt.Errorf("encode events: %w", err)
		}
		args = append(args, arg)
	}
	query := `INSERT INTO ` + d.outbox + ` (id, topic, key, headers, payload)
SELECT id, topic, key, headers::jsonb, payload
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bytea[]) WITH ORDINALITY AS m (id, topic, key, headers, payload, n)
ORDER BY n`
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

// Open implements [core.Dialect].
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	conn, err := d.db.Connx(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{conn: conn, outbox: d.outbox}, nil
}

// session holds one connection. Its statements have no arguments, which makes each a single round trip, and keeps them
// whole behind a pooler that hands every statement to another server connection.
type session struct {
	conn   *sqlx.Conn
	outbox string
}

type row struct {
	Position  int64     `db:"position"`
	ID        string    `db:"id"`
	Topic     string    `db:"topic"`
	Key       string    `db:"key"`
	Headers   []byte    `db:"headers"`
	Payload   []byte    `db:"payload"`
	CreatedAt time.Time `db:"created_at"`
}

func (s *session) Fetch(ctx context.Context, limit int) ([]core.Record, error) {
	var rows []row
	err := s.conn.SelectContext(ctx, &rows, `SELECT position, id, topic, key, headers, payload, created_at FROM `+
		s.outbox+` ORDER BY position LIMIT `+strconv.Itoa(limit))
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
			CreatedAt: r.CreatedAt,
		}
	}
	return records, nil
}

func (s *session) Acknowledge(ctx context.Context, refs []core.Ref) error {
	positions, ids := make(pq.Int64Array, len(refs)), make(pq.StringArray, len(refs))
	for i, ref := range refs {
		positions[i], ids[i] = ref.Position, ref.ID
	}
	positionsText, err := literal(positions)
	if err != nil {
		return err
	}
	idsText, err := literal(ids)
	if err != nil {
		return err
	}
	_, err = s.conn.ExecContext(ctx, `DELETE FROM `+s.outbox+` AS o USING unnest(`+positionsText+`::bigint[], `+
		idsText+`::text[]) AS done (position, id) WHERE o.position = done.position AND o.id = done.id`)
	if err != nil {
		return fmt.Errorf("delete events: %w", err)
	}
	return nil
}

// literal quotes an array so that it can stand in the statement's text.
func literal(array driver.Valuer) (string, error) {
	value, err := array.Value()
	if err != nil {
		return "", fmt.Errorf("encode references: %w", err)
	}
	return pq.QuoteLiteral(value.(string)), nil
}

// Close ends the connection instead of giving it back to the pool: the next session is to be a new one.
func (s *session) Close() error {
	err := s.conn.Raw(func(any) error { return driver.ErrBadConn })
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}
