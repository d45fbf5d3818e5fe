package sqlite

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/core"
)

// session reads over a connection of its own and writes over the process's one writer: a second writing connection
// would make the application wait for the file's lock instead of its turn.
type session struct {
	dialect *Dialect
	conn    *sqlx.Conn
}

// Open implements [core.Dialect]. It makes no file.
func (d *Dialect) Open(ctx context.Context) (core.Session, error) {
	if err := d.source.there(); err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, d.reader)
	if err != nil {
		return nil, explained(fmt.Errorf("connect: %w", err))
	}
	if err := d.checkSchema(ctx, conn); err != nil {
		return nil, errors.Join(explained(err), conn.Close())
	}
	return &session{dialect: d, conn: conn}, nil
}

// Close implements [core.Session].
func (s *session) Close() error { return s.conn.Close() }

func (s *session) sql(statement string) string { return s.dialect.names.Replace(statement) }

// get reads one row's one or more columns into a struct or a value.
func (s *session) get(ctx context.Context, into any, statement string, args ...any) error {
	return s.conn.GetContext(ctx, into, s.sql(statement), args...)
}

// query hands each row to scan, which returns false when it has enough.
func (s *session) query(ctx context.Context, statement string, args []any, scan func(*sqlx.Rows) (bool, error)) error {
	rows, err := s.conn.QueryxContext(ctx, s.sql(statement), args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if more, err := scan(rows); err != nil || !more {
			return err
		}
	}
	return rows.Err()
}

// write runs do in a transaction on the process's one writer.
func (d *Dialect) write(ctx context.Context, what string, do func(tx *sqlx.Tx) error) (err error) {
	conn, err := d.connect(ctx, d.writer)
	if err != nil {
		return fmt.Errorf("%s: wait for the writer: %w", what, err)
	}
	defer conn.Close()
	tx, err := d.begin(ctx, conn)
	if err != nil {
		return fmt.Errorf("%s: begin: %w", what, err)
	}
	if err := do(tx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", what, err), tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("%s: commit: %w", what, err)
	}
	return nil
}

// connect waits until ctx ends while others put a new file into WAL mode: SQLite does not wait for that by itself.
func (d *Dialect) connect(ctx context.Context, pool *sqlx.DB) (*sqlx.Conn, error) {
	for {
		conn, err := pool.Connx(ctx)
		if err == nil || !d.Retryable(err) {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// begin waits for another process's transaction until ctx ends; once the transaction is open nothing in it waits.
func (d *Dialect) begin(ctx context.Context, conn *sqlx.Conn) (*sqlx.Tx, error) {
	for {
		tx, err := conn.BeginTxx(ctx, nil)
		if err == nil || !d.Retryable(err) || ctx.Err() != nil {
			return tx, err
		}
	}
}

// write is the dialect's, for a session.
func (s *session) write(ctx context.Context, what string, do func(w writing) error) error {
	return s.dialect.write(ctx, what, func(tx *sqlx.Tx) error { return do(writing{ctx: ctx, tx: tx, session: s}) })
}

// writing is a session's open transaction.
type writing struct {
	ctx     context.Context
	tx      *sqlx.Tx
	session *session
}

// exec returns how many rows the statement changed.
func (w writing) exec(statement string, args ...any) (int64, error) {
	result, err := w.tx.ExecContext(w.ctx, w.session.sql(statement), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// each prepares a statement and executes it once for each of n argument lists.
func (w writing) each(n int, statement string, args func(i int) []any) error {
	stmt, err := w.tx.PreparexContext(w.ctx, w.session.sql(statement))
	if err != nil {
		return err
	}
	defer stmt.Close()
	for i := range n {
		if _, err := stmt.ExecContext(w.ctx, args(i)...); err != nil {
			return err
		}
	}
	return nil
}

// bump tells the readers that the outbox changed under them.
func (w writing) bump() error {
	_, err := w.exec(`UPDATE {control} SET generation = generation + 1`)
	return err
}
