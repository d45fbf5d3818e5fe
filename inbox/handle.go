package inbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// maxRuns is how often Handle runs a transaction that the database rolls back for another one's sake.
	maxRuns = 10
	// rerunPause is the most that it pauses after the first of them; it grows with each.
	rerunPause = 10 * time.Millisecond
	// sqliteConstraint is SQLITE_CONSTRAINT, the low byte of the codes of its kind.
	sqliteConstraint = 19
)

// EffectError is what [Inbox.Handle] returns when the effect failed while the database was there: it answered the ROLLBACK, or
// refused the COMMIT for what the effect had done. It is also what it returns, whatever became of the connection, when the
// effect's error is [core.ErrPermanent]. In each case nothing of it is committed.
type EffectError struct{ Err error }

func (e *EffectError) Error() string { return "effect: " + e.Err.Error() }

// Unwrap returns the effect's error, or that of the COMMIT.
func (e *EffectError) Unwrap() error { return e.Err }

// unclearError is that of a transaction in which the effect has run, and whose end the database did not answer in a way that
// is understood here: it may be away, or the effect may have broken its own connection.
type unclearError struct {
	err error
	// failed says that it is a failure like others, as soon as the database has said that nothing of it is committed.
	failed bool
}

func (e *unclearError) Error() string { return e.err.Error() }

func (e *unclearError) Unwrap() error { return e.err }

// Handle runs effect in a transaction that also notes the message as received by consumer, and commits both; or does
// nothing, where that has been done before. nil means that the effect is committed, once: the message can be acknowledged.
//
// After any error the message is to be delivered again. An *[EffectError] has the effect's error, or that of a COMMIT which
// the database refused for what the effect did (a deferred constraint; on PostgreSQL a statement whose failure the effect
// ignored). [ErrID] will be the same each time. Every other error is the database's, or a connection's that was lost, by the
// effect's own deadline for a statement too; the effect may even be committed: the next delivery finds out.
//
// effect uses tx for all that it does, does not end it, and returns every error of it: on MySQL and MariaDB a deadlock, on
// SQLite a conflict under OR ROLLBACK, has ended the transaction, and what follows is outside of it, without the note. effect
// may run more than once: Handle repeats a transaction that the database rolled back for a deadlock or a serialisation
// failure, up to 10 times. When effect panics the transaction is rolled back, and the panic goes on.
//
// ctx covers the whole of it. When it is done before COMMIT, everything is rolled back.
func (b *Inbox) Handle(
	ctx context.Context, db core.Beginner, consumer, messageID string, effect func(ctx context.Context, tx *sql.Tx) error,
) error {
	if err := checkNames(consumer, messageID); err != nil {
		return fmt.Errorf("inbox: %w", err)
	}
	for run := 1; ; run++ {
		err := b.handle(ctx, db, consumer, messageID, effect)
		if err == nil || run == maxRuns || !b.dialect.Retryable(err) {
			return err
		}
		if pause(ctx, rand.N(time.Duration(run)*rerunPause)) != nil {
			return err
		}
	}
}

func (b *Inbox) handle(
	ctx context.Context, db core.Beginner, consumer, id string, effect func(ctx context.Context, tx *sql.Tx) error,
) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("inbox: begin: %w", err)
	}
	// For errors and panics; after COMMIT it does nothing.
	defer tx.Rollback()
	first, err := b.Once(ctx, tx, consumer, id)
	if err != nil || !first {
		return err
	}
	if err := effect(ctx, tx); err != nil {
		// A database that answers this one was there, and the failure is not an outage's.
		lost := tx.Rollback()
		if lost == nil || errors.Is(err, core.ErrPermanent) {
			return &EffectError{err}
		}
		return &unclearError{fmt.Errorf("inbox: the effect failed (%w) and so did its rollback: %w", err, lost), errors.Is(err, errOverrun)}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("inbox: not committed: %w", err)
	}
	switch err := tx.Commit(); {
	case err == nil:
		return nil
	case refused(err):
		return &EffectError{fmt.Errorf("commit: %w", err)}
	default:
		return &unclearError{fmt.Errorf("inbox: commit: %w", err), hadEnded(err)}
	}
}

// refused reports whether err is certainly the database's answer to a COMMIT that it rolled back for what is in the
// transaction. It asks the error itself, since this package knows no driver: what it does not recognise counts as unclear, and
// is no less buried, only later.
//
// MySQL and MariaDB have no case here. They check every constraint in the statement, where the effect's own error tells, and
// what is left for COMMIT is not the message's: a conflict of a cluster (1213), a lock that somebody has on all commits (1205),
// both of which Retryable knows; a failover (1290), a full disk (1180), a lost connection.
func refused(err error) bool {
	var postgres interface{ SQLState() string }
	if errors.As(err, &postgres) {
		// Data, constraints and PL/pgSQL, all of which come before the commit is written. Not 57 and 08, which may follow it.
		state := postgres.SQLState()
		return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23") || strings.HasPrefix(state, "P0")
	}
	var sqlite interface{ Code() int }
	if errors.As(err, &sqlite) {
		return sqlite.Code()&0xff == sqliteConstraint
	}
	// lib/pq and pgx have no code for a COMMIT that became a ROLLBACK, because a statement before it had failed.
	text := strings.ToLower(err.Error())
	return strings.Contains(text, "could not complete operation in a failed transaction") ||
		strings.Contains(text, "commit unexpectedly resulted in rollback")
}

// hadEnded reports whether err is SQLite's answer to a COMMIT of a transaction that something in it had ended: a conflict under OR
// ROLLBACK, or the effect itself, which may have committed. It has no code of its own (1, SQLITE_ERROR).
func hadEnded(err error) bool {
	var sqlite interface{ Code() int }
	return errors.As(err, &sqlite) && strings.Contains(err.Error(), "no transaction is active")
}

// pause lets d pass, or ctx end.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
