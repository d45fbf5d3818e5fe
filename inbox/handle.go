package inbox

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// maxRuns is how often Handle runs a transaction that the database rolls back for another one's sake.
	maxRuns = 10
	// rerunPause is the most that it pauses after the first of them; it grows with each.
	rerunPause = 10 * time.Millisecond
)

// EffectError is what [Inbox.Handle] returns when the effect failed, and the database has rolled it back: the failure is the
// message's or the effect's, and not a database's that is away.
type EffectError struct{ Err error }

func (e *EffectError) Error() string { return "effect: " + e.Err.Error() }

// Unwrap returns the effect's error.
func (e *EffectError) Unwrap() error { return e.Err }

// Handle runs effect in a transaction that also notes the message as received by consumer, and commits both; or does
// nothing, where that has been done before. nil means that the effect is committed, once: the message can be acknowledged.
//
// After any error the message is to be delivered again. An *[EffectError] has the effect's error. [ErrID] will be the same
// each time. Every other error is the database's, and the effect may even be committed: the next delivery finds out.
//
// effect uses tx for all that it does, and does not end it. It may run more than once: Handle repeats a transaction that the
// database rolled back for a deadlock or a serialisation failure, up to 10 times. When effect panics the transaction is
// rolled back, and the panic goes on.
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
		if lost := tx.Rollback(); lost != nil {
			return fmt.Errorf("inbox: the effect failed (%w) and so did its rollback: %w", err, lost)
		}
		return &EffectError{err}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("inbox: not committed: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("inbox: commit: %w", err)
	}
	return nil
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
