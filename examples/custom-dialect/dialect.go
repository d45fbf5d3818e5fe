package main

import (
	"context"
	"database/sql"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"

	_ "github.com/ncruces/go-sqlite3/driver" // "sqlite3"
	_ "github.com/ncruces/go-sqlite3/embed"  // SQLite itself

	"github.com/lockstep-go/lockstep/core"
)

// This is the tutorial for a dialect of your own: an outbox in SQLite, through another driver than Lockstep's. What a
// Dialect must do stands in core.Dialect and core.Session. Minimum effort is safe: this one does each thing in the simplest
// way it could, and has none of the optional abilities.
//
//	schema.sql    four tables
//	dialect.go    this file: the application's side, and connections
//	relay.go      what a relay does: fetch, settle, lease
//	operator.go   what an operator does: dead letters, blocked keys, pauses

// Dialect is an outbox in a SQLite file.
type Dialect struct{ db *sql.DB }

var (
	_ core.Dialect = (*Dialect)(nil)
	_ core.Session = (*session)(nil)
)

//go:embed schema.sql
var schema string

// now is the database's clock, in milliseconds. Only it may decide what is due, or which lease is over: the relay's own
// clock is another machine's.
const now = `CAST(round(unixepoch('subsec') * 1000) AS INTEGER)`

// Open opens the file at path and makes the outbox's tables where they are missing.
func Open(ctx context.Context, path string) (*Dialect, error) {
	// Each of these is a promise. Without immediate, a transaction that has read cannot write behind another's back and
	// fails in the middle; without full, a power loss takes commits; without WAL, readers and the writer wait for each other.
	options := url.Values{"_txlock": {"immediate"}, "_pragma": {"busy_timeout(10000)", "journal_mode(wal)", "synchronous(full)"}}
	db, err := sql.Open("sqlite3", "file:"+path+"?"+options.Encode())
	if err != nil {
		return nil, err
	}
	d := &Dialect{db}
	err = d.write(ctx, db, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, schema); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO control (one, outbox) VALUES (1, ?) ON CONFLICT DO NOTHING`, core.NewID())
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the outbox: %w", err), db.Close())
	}
	return d, nil
}

// DB is for the application's transactions.
func (d *Dialect) DB() *sql.DB { return d.db }

// Close closes the connections.
func (d *Dialect) Close() error { return d.db.Close() }

// Enqueue is one statement, whatever the number of messages: they travel as one JSON argument, so that no limit of arguments
// is met. json_each keeps their order, and so the positions ascend in it.
func (d *Dialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	type event [6]any
	var due, delayed []event
	for _, m := range msgs {
		headers, err := json.Marshal(m.Headers)
		if err != nil {
			return err
		}
		e := event{m.ID, m.Topic, m.Key, string(headers), hex.EncodeToString(m.Payload), 0}
		if m.NotBefore.IsZero() {
			due = append(due, e)
			continue
		}
		e[5] = (m.NotBefore.UnixMicro() + 999) / 1000 // rounded up: nothing is early
		delayed = append(delayed, e)
	}
	const columns = `value ->> 0, value ->> 1, value ->> 2, value ->> 3, unhex(value ->> 4)`
	if len(due) > 0 {
		err := insert(ctx, tx, `INSERT INTO events (id, topic, key, headers, payload) SELECT `+columns+` FROM json_each(?)`, due)
		if err != nil {
			return err
		}
	}
	if len(delayed) > 0 {
		return insert(ctx, tx, `INSERT INTO delayed (id, topic, key, headers, payload, not_before) SELECT `+columns+`, value ->> 5 FROM json_each(?)`, delayed)
	}
	return nil
}

// insert passes rows on. It returns the database's error as it is and tries nothing again: the transaction is the caller's.
func insert(ctx context.Context, tx core.Execer, statement string, rows any) error {
	encoded, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, statement, string(encoded)); err != nil {
		return fmt.Errorf("insert events: %w", err)
	}
	return nil
}

// Retryable reports false: transactions begin by taking the write lock, so none is rolled back for another's sake. What it
// must never do is say true where nobody knows whether COMMIT happened.
func (d *Dialect) Retryable(error) bool { return false }

// Open opens a session: one connection. A *sql.Conn never becomes another one, which a *sql.DB does behind one's back.
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	conn, err := d.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &session{d, conn}, nil
}

type session struct {
	dialect *Dialect
	conn    *sql.Conn
}

func (s *session) Close() error { return s.conn.Close() }

// beginner is a *sql.DB or a *sql.Conn.
type beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// write runs do in a transaction. Nothing may stay open when a method of a session returns.
func (d *Dialect) write(ctx context.Context, on beginner, do func(tx *sql.Tx) error) error {
	tx, err := on.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// exec is a transaction of one statement with rows as its one JSON argument. It returns how many rows changed.
func (s *session) exec(ctx context.Context, statement string, args ...any) (n int64, err error) {
	err = s.dialect.write(ctx, s.conn, func(tx *sql.Tx) error {
		n, err = affected(ctx, tx, statement, args...)
		return err
	})
	return n, err
}

func affected(ctx context.Context, tx *sql.Tx, statement string, args ...any) (int64, error) {
	result, err := tx.ExecContext(ctx, statement, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// bump tells relays that records appeared or disappeared below what they have read.
func bump(ctx context.Context, tx *sql.Tx) error {
	_, err := tx.ExecContext(ctx, `UPDATE control SET generation = generation + 1`)
	return err
}
