package core

import (
	"context"
	"database/sql"
	"errors"
)

// ErrNotInTransaction is returned when Enqueue is given a connection pool: the event would be written on its own,
// outside the transaction that it belongs to. Pass the *sql.Tx (or what wraps it) instead.
var ErrNotInTransaction = errors.New("not in a transaction: pass the transaction, not the connection pool")

// Execer is the caller's open transaction, as far as Enqueue needs it. A *sql.Tx is one, and so are the transactions of
// the libraries on top of database/sql, directly or through the *sql.Tx inside them:
//
//	database/sql, sqlx   outbox.Enqueue(ctx, tx, event)
//	GORM                 outbox.Enqueue(ctx, tx.Statement.ConnPool, event)     // in db.Transaction
//	bun                  outbox.Enqueue(ctx, tx.Tx, event)                     // bun.Tx itself formats ? and $1
//	ent                  outbox.Enqueue(ctx, tx, event)                        // *entsql.Tx; *ent.Tx with sql/execquery
//	pgx                  outbox.Enqueue(ctx, core.ExecFunc(…), event)          // see ExecFunc
//
// The text and the arguments that Enqueue passes on are the dialect's: what stands between must not rewrite them.
//
// A pool is refused with [ErrNotInTransaction] where it can be recognised: it has a method Stats() sql.DBStats, as
// *sql.DB, *sqlx.DB and bun.DB do. Not everything gives itself away: GORM's prepared-statement pool, ent's driver and a
// pgx pool inside an ExecFunc look like their transactions. A *sql.Conn is taken: its caller vouches that a transaction
// is open on it.
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
