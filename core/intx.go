package core

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// The pause before a transaction is run again: at random up to a bound that doubles from the first to the last.
const (
	firstRerunPause = 10 * time.Millisecond
	lastRerunPause  = time.Second
)

// What InTx returns beside the errors of the database and of the function itself.
var (
	// ErrCommitUnknown: COMMIT was sent, or may have been, and nothing says what became of it. The transaction exists
	// with its events, or not at all. The cause is wrapped too. InTx never runs the function again after it: that could
	// do everything twice. Find out by reading what the function would have written, by a key that it chose.
	ErrCommitUnknown = errors.New("the outcome of COMMIT is unknown")
	// ErrNoEvents: the function returned no events and no error, and was rolled back: it seems to have forgotten them.
	// Where that is meant it returns [NoEvents].
	ErrNoEvents = errors.New("the function returned no events: return core.NoEvents where that is meant")
)

// NoEvents is what a function run by [Outbox.InTx] returns when it commits without an event. Any slice that is empty and
// not nil says the same.
var NoEvents = []Message{}

// Beginner begins the transaction of InTx. *sql.DB, *sql.Conn and *sqlx.DB are Beginners, and whatever embeds them. The
// libraries on top of database/sql work on the *sql.Tx that the function is given:
//
//	sqlx   x := &sqlx.Tx{Tx: tx, Mapper: db.Mapper}
//	GORM   session := db.Session(&gorm.Session{NewDB: true, Context: ctx}); session.Statement.ConnPool = tx
//	bun    db.NewInsert().Conn(tx)
//	ent    ent.NewClient(ent.Driver(entsql.NewDriver(dialect.Postgres, entsql.Conn{ExecQuerier: tx})))
type Beginner interface {
	BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)
}

// InTxOptions sets how [Outbox.InTx] runs a transaction. Its zero value works.
type InTxOptions struct {
	// Tx is passed on to BeginTx. Defaults to the database's isolation level, reading and writing.
	Tx sql.TxOptions
	// Retries is how many times the transaction is run again, from BEGIN on, after the database rolled it back for a
	// serialisation failure or a deadlock. The function must be fit for that: what it does outside the transaction is
	// done each time. Between two runs there is a random pause of at most 10 ms, then 20 ms, and so on up to 1 s.
	// Defaults to none.
	Retries int
}

// InTx runs fn in a transaction and enqueues the events that fn returns, as the transaction's last statement, right
// before COMMIT. So events cannot be forgotten, and those of one key are enqueued in the order in which the
// transactions changed the row that they all update. After COMMIT it wakes the relays (see [Outbox.Wake]).
//
// fn does not end tx, and returns the errors that tx gave it: some databases have ended the transaction by then. A
// function that has nothing to tell returns [NoEvents]; nil events without an error are refused with [ErrNoEvents].
//
// When fn returns an error or panics, or an event cannot be enqueued, the transaction is rolled back. fn's error comes
// back as it is, and its panic goes on. The other errors are [ErrCommitUnknown], [ErrNoEvents], those of
// [Outbox.Enqueue], and the database's. All but ErrCommitUnknown mean that nothing was written.
//
// ctx covers the whole of it: when it is done the transaction is rolled back, unless COMMIT is under way, which some
// drivers then cut off (ErrCommitUnknown).
func (o *Outbox) InTx(
	ctx context.Context, db Beginner, opts InTxOptions, fn func(ctx context.Context, tx *sql.Tx) ([]Message, error),
) error {
	if opts.Retries < 0 {
		return fmt.Errorf("in transaction: Retries is %d: it must not be negative", opts.Retries)
	}
	if err := o.checkLocker(); err != nil {
		return fmt.Errorf("in transaction: %w", err)
	}
	for run := 0; ; run++ {
		err := o.runTx(ctx, db, opts.Tx, fn)
		switch {
		case err == nil:
			o.Wake()
			return nil
		case errors.Is(err, ErrCommitUnknown):
			o.Wake() // it may be there
			return err
		case run >= opts.Retries || !o.dialect.Retryable(err):
			return err
		}
		if !rerunPause(ctx, run) {
			return fmt.Errorf("%w (not run again: %w)", err, ctx.Err())
		}
	}
}

// runTx is one run of InTx, from BEGIN to COMMIT.
func (o *Outbox) runTx(
	ctx context.Context, db Beginner, opts sql.TxOptions, fn func(ctx context.Context, tx *sql.Tx) ([]Message, error),
) error {
	tx, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	// For errors, panics and runtime.Goexit; after COMMIT it does nothing. Its own error is of no use: when ROLLBACK
	// fails, the connection is lost, and the database rolls back by itself.
	defer tx.Rollback()
	events, err := fn(ctx, tx)
	switch {
	case err != nil:
		return err
	case events == nil:
		return ErrNoEvents
	}
	if err := o.Enqueue(ctx, tx, events...); err != nil {
		return err
	}
	return o.commit(ctx, tx)
}

// commit commits tx. Its error is ErrCommitUnknown unless it is certain that the transaction is rolled back:
//
//   - ctx was done before COMMIT was sent. That is looked at here, before the call: an error of the context that comes
//     out of Commit can also be a driver's that was cut off while it waited for the answer.
//   - sql.ErrTxDone: database/sql did not send COMMIT, since the transaction is over: rolled back when ctx was done, or
//     ended by fn.
//   - The dialect calls it retryable, which it must not do where the outcome is unknown.
//   - The database answered with an SQLSTATE that stands for a rollback: see rolledBack.
//
// Everything else is unknown, driver.ErrBadConn included: drivers return it for a connection that broke after COMMIT
// was sent (seen with lib/pq: the row was there), although database/sql's documentation forbids that.
func (o *Outbox) commit(ctx context.Context, tx *sql.Tx) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("not committed: %w", err)
	}
	err := tx.Commit()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sql.ErrTxDone) && ctx.Err() != nil:
		return fmt.Errorf("not committed: %w", ctx.Err())
	case errors.Is(err, sql.ErrTxDone):
		return fmt.Errorf("commit: the function has ended the transaction, which is InTx's to do: %w", err)
	case rolledBack(err) || o.dialect.Retryable(err):
		return fmt.Errorf("commit: %w", err)
	}
	return fmt.Errorf("commit: %w: %w", ErrCommitUnknown, err)
}

// rolledBack reports whether err carries an SQLSTATE which says that COMMIT ended in a rollback. Those are the classes of
// what deferred constraints and triggers raise, which run before the commit is written: data exceptions (22),
// constraint violations (23) and errors of PL/pgSQL (P0); and transaction rollback (40), but for 40003, statement
// completion unknown. Not those of interrupts and shutdowns (57), which PostgreSQL can send between its commit and its
// answer, nor connection exceptions (08).
func rolledBack(err error) bool {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return false
	}
	state := coded.SQLState()
	if len(state) != 5 || state == "40003" {
		return false
	}
	switch state[:2] {
	case "22", "23", "40", "P0":
		return true
	}
	return false
}

// rerunPause waits before run number run is followed by another. It reports false when ctx is done first.
func rerunPause(ctx context.Context, run int) bool {
	bound := lastRerunPause
	if run < 7 { // 10 ms << 7 is past 1 s, and no shift overflows
		bound = firstRerunPause << run
	}
	timer := time.NewTimer(rand.N(bound))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
