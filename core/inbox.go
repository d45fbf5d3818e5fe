package core

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// ErrNoResult is returned where a statement's count of changed rows is asked for, and the transaction does not tell it. An
// [ExecFunc] doesn't; make an [ExecCountFunc] of the transaction instead.
var ErrNoResult = errors.New("the transaction does not say how many rows a statement changed: " +
	"pass it as a *sql.Tx or as a core.ExecCountFunc")

// InboxStore is implemented by a dialect that can keep an inbox: a table of what consumers have received. It is what
// package inbox works on. The table stands by itself: a consumer's database needs no outbox.
type InboxStore interface {
	// Receive notes, as part of tx, that consumer has received the message with this id. It reports whether that is
	// new: false says that a transaction that committed, or an earlier call in tx, has noted it already. While another
	// open transaction has noted the same, it waits for that one's end, or returns an error; of two transactions that
	// commit it must report true to one only. What a rolled back transaction noted was never there. consumer and id
	// compare bytewise. What was noted keeps its time: a later call does not change it.
	//
	// After false, tx must be as usable as before. It must not begin, commit or roll back, and must not retry: every
	// error goes back to the caller, whose transaction it is.
	Receive(ctx context.Context, tx Execer, consumer, id string) (first bool, err error)

	// Forget removes what was received at least olderThan ago, by the database's clock: at most limit, oldest first, in
	// a transaction of its own. It returns how many.
	Forget(ctx context.Context, olderThan time.Duration, limit int) (int, error)

	// MigrateInbox creates the inbox's table, where it is missing. Concurrent callers are safe.
	MigrateInbox(ctx context.Context) error
}

// ExecCountFunc makes an [Execer] of a function that also tells how many rows a statement changed, as an inbox needs it.
// For pgx:
//
//	core.ExecCountFunc(func(ctx context.Context, query string, args ...any) (int64, error) {
//		tag, err := tx.Exec(ctx, query, args...)
//		return tag.RowsAffected(), err
//	})
type ExecCountFunc func(ctx context.Context, query string, args ...any) (changed int64, err error)

// ExecContext calls f.
func (f ExecCountFunc) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	changed, err := f(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	return count(changed), nil
}

// count is a sql.Result of changed rows.
type count int64

func (c count) RowsAffected() (int64, error) { return int64(c), nil }

func (c count) LastInsertId() (int64, error) { return 0, errors.ErrUnsupported }
