package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// dialect is a core.Dialect with the tool that makes its tables.
type dialect interface {
	core.Dialect
	Migrate(ctx context.Context) error
	Close() error
}

// database is a schema, a database or a file of its own, made for trials.
type database interface {
	// place says how a child process gets there.
	place() Place
	// dialect opens the dialect.
	dialect(archive bool) (dialect, error)
	// pool opens a pool for the application, and for what goes without Lockstep.
	pool() (*sql.DB, error)
	// statements are those that differ between databases.
	statements() statements
	// drop removes it.
	drop(ctx context.Context) error
}

// Place says where a database or a broker is.
type Place struct{ Kind, Address string }

// statements is one database's SQL for what goes without Lockstep.
type statements struct {
	// series is a FROM clause, with a verb for the count, whose column n counts from 0. div is integer division, and text
	// a function that makes of a number a text with seqDigits digits.
	series, div string
	padded      func(number string) string
	// payload makes a payload of a text expression and a count of bytes to follow.
	payload func(text string, more int) string
	// concat joins two texts.
	concat func(a, b string) string
	// key is the quoted name of the column.
	key string
	// position names the column type of a counting primary key, bytes that of a payload.
	position, text, bytes, timestamp string
	// now is the time, and parameter a placeholder by its number from 1.
	now       string
	parameter func(n int) string
	// before runs ahead of a fill.
	before string
	// after runs behind one: it brings statistics up to date, as they are in a table that lives.
	after func(table string) string
	// suffix ends CREATE TABLE.
	suffix string
}

// openDatabase makes a place for trials.
func openDatabase(ctx context.Context, kind, address string) (database, error) {
	switch kind {
	case Postgres:
		return newPostgres(ctx, address)
	case MySQL, MariaDB:
		return newMySQL(ctx, kind, address)
	}
	return newSQLite(address)
}

// databaseAt is openDatabase for a place that is there.
func databaseAt(p Place) database {
	switch p.Kind {
	case Postgres:
		return &postgresPlace{address: p.Address}
	case MySQL, MariaDB:
		return &mysqlPlace{kind: p.Kind, address: p.Address}
	}
	return &sqlitePlace{path: p.Address}
}

// backlog is what a fill puts into a table.
type backlog struct {
	topic        string
	events, keys int
	payload      int
	hot          bool   // every second event is of one key
	prefix       string // of the keys
	rival        bool   // into the rivals' table
}

// keyAndNumber are SQL expressions over n for the number of an event's key, and for the event's in that key.
func (b backlog) keyAndNumber(div string) (key, number string) {
	keys := strconv.Itoa(b.keys)
	if !b.hot {
		return "n % " + keys, "n " + div + " " + keys
	}
	others := strconv.Itoa(b.keys - 1)
	return "CASE WHEN n % 2 = 0 THEN 0 ELSE 1 + (n " + div + " 2) % " + others + " END",
		"CASE WHEN n % 2 = 0 THEN n " + div + " 2 ELSE (n " + div + " 2) " + div + " " + others + " END"
}

// rivalTable is what most teams have in place of an outbox that is emptied: rows are marked.
const rivalTable = "bench_rival"

// fill puts events into the outbox, or into the rivals' table, with one statement.
func fill(ctx context.Context, db *sql.DB, s statements, b backlog) error {
	key, number := b.keyAndNumber(s.div)
	table := "outbox"
	if b.rival {
		table = rivalTable
	}
	statement := fmt.Sprintf("INSERT INTO %s (topic, %s, payload) SELECT '%s', %s, %s FROM %s ORDER BY n",
		table, s.key, b.topic, s.concat("'"+b.prefix+"'", s.padded(key)),
		s.payload(s.padded(number), max(0, b.payload-seqDigits)), fmt.Sprintf(s.series, b.events))
	conn, err := db.Conn(ctx) // what before says is said to one connection
	if err != nil {
		return err
	}
	defer conn.Close()
	for _, part := range []string{s.before, statement, s.after(table)} {
		if part == "" {
			continue
		}
		if _, err := conn.ExecContext(ctx, part); err != nil {
			return fmt.Errorf("fill %s: %w", table, err)
		}
	}
	return nil
}

// createRival makes the rivals' table, with an index on what is not sent where the database has such.
func createRival(ctx context.Context, db *sql.DB, s statements) error {
	_, err := db.ExecContext(ctx, fmt.Sprintf(`CREATE TABLE IF NOT EXISTS %s (id %s, topic %s NOT NULL, %s %s NOT NULL, payload %s NOT NULL, sent_at %s)%s`,
		rivalTable, s.position, s.text, s.key, s.text, s.bytes, s.timestamp, s.suffix))
	if err != nil {
		return fmt.Errorf("create %s: %w", rivalTable, err)
	}
	columns := "(id) WHERE sent_at IS NULL"
	if s.suffix != "" {
		columns = "(sent_at, id)" // MySQL has no partial indexes
	}
	_, err = db.ExecContext(ctx, "CREATE INDEX "+rivalTable+"_unsent ON "+rivalTable+" "+columns)
	return err
}

// list joins numbers by commas.
func list(numbers []int64) string {
	var b strings.Builder
	for i, n := range numbers {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	return b.String()
}

// closing adds to *err what close fails with.
func closing(err *error, close func() error) { *err = errors.Join(*err, close()) }
