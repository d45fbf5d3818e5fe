package core

import (
	"context"
	"database/sql"
	"errors"
)

// ErrNotInTransaction is returned when Enqueue is given a connection pool: the event would be written on its own,
// outside the transaction that it belongs to. Pass the *sql.Tx (or what wraps it) instead.
var ErrNotInTransaction = errors.New("not in a transaction: pass the transaction, not the connection pool")

// Execer is the caller's open transaction, as far as Enqueue needs it. *sql.Tx and *sqlx.Tx are Execers; so is
// *sql.Conn, whose caller vouches that a transaction is open on it. [ExecFunc] adapts everything else.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// ExecFunc makes an Execer of a function, for transactions that are not shaped like database/sql's. For pgx:
//
//	core.ExecFunc(func(ctx context.Context, query string, args ...any) error {
//		_, err := tx.Exec(ctx, query, args...)
//		return err
//	})
type ExecFunc func(ctx context.Context, query string, args ...any) error

// ExecContext calls f. The result is always nil: a dialect does not look at results.
func (f ExecFunc) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return nil, f(ctx, query, args...)
}

// isPool reports whether tx is a connection pool, by the one method that pools have and transactions don't.
func isPool(tx Execer) bool {
	_, pool := tx.(interface{ Stats() sql.DBStats })
	return pool
}
