package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var inboxChecks = []check[DialectFixture]{
	{"inbox-once", "Receive reports whether that is new: false says that a transaction that committed has noted it already", checkInboxOnce},
	{"inbox-same-transaction", "false says that an earlier call in tx has noted it already", checkInboxSameTransaction},
	{"inbox-rollback", "what a rolled back transaction noted was never there", checkInboxRollback},
	{"inbox-savepoint", "what a rolled back transaction noted was never there, a part of one included", checkInboxSavepoint},
	{"inbox-atomic", "Receive notes as part of tx, with the effect or not at all", checkInboxAtomic},
	{"inbox-usable", "after false, tx must be as usable as before", checkInboxUsable},
	{"inbox-bytewise", "consumer and id compare bytewise", checkInboxBytewise},
	{"inbox-migrate", "MigrateInbox creates the table where it is missing; concurrent callers are safe", checkInboxMigrate},
}

var inboxForgetChecks = []check[DialectFixture]{
	{"inbox-forget-age", "Forget removes what was received at least olderThan ago, and nothing else", checkForgetAge},
	{"inbox-forget-limit", "Forget removes at most limit, oldest first, and returns how many", checkForgetLimit},
}

var inboxLossChecks = []check[DialectFixture]{
	{"inbox-answer-lost", "of two transactions that commit Receive reports true to one only, also where a COMMIT is not answered", checkInboxAnswerLost},
}

func checkInboxOnce(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for _, want := range []bool{true, false, false} {
		if err := c.expectOnce(ctx, billing, "a", want); err != nil {
			return err
		}
	}
	return firstError(c.expectOnce(ctx, billing, "b", true), c.expectOnce(ctx, "shipping", "a", true))
}

func checkInboxSameTransaction(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	for _, want := range []bool{true, false} {
		got, err := c.box.Once(ctx, tx, billing, "a")
		if err != nil || got != want {
			return firstError(err, fmt.Errorf("in one transaction: first = %t, want %t", got, want))
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return c.expectOnce(ctx, billing, "a", false)
}

func checkInboxRollback(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		first, err := c.once(ctx, billing, "a", Tx.Rollback)
		if err != nil || !first {
			return firstError(err, errors.New("a message whose transactions were rolled back is not new"))
		}
	}
	return firstError(c.expectOnce(ctx, billing, "a", true), c.expectOnce(ctx, billing, "a", false))
}

func checkInboxSavepoint(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	if _, err := c.box.Once(ctx, tx, billing, "before"); err != nil {
		return err
	}
	points := savepointer(tx)
	if err := points.Savepoint(ctx); err != nil {
		return err
	}
	if _, err := c.box.Once(ctx, tx, billing, "after"); err != nil {
		return err
	}
	if err := points.RollbackTo(ctx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return firstError(c.expectOnce(ctx, billing, "before", false), c.expectOnce(ctx, billing, "after", true))
}

func checkInboxAtomic(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	if err := c.deliver(ctx, "a", Tx.Rollback); err != nil {
		return err
	}
	if err := f.expect(ctx); err != nil {
		return fmt.Errorf("after a rollback: %w", err)
	}
	for range 3 {
		if err := c.deliver(ctx, "a", Tx.Commit); err != nil {
			return err
		}
	}
	return f.expect(ctx, "a")
}

func checkInboxUsable(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	if err := c.expectOnce(ctx, billing, "a", true); err != nil {
		return err
	}
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
	if err := outbox.Enqueue(ctx, tx, event("before")); err != nil {
		return err
	}
	if first, err := c.box.Once(ctx, tx, billing, "a"); err != nil || first {
		return firstError(err, errors.New("a message that was received is new"))
	}
	if err := outbox.Enqueue(ctx, tx, event("after")); err != nil {
		return fmt.Errorf("after false, the transaction fails: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("after false, COMMIT fails: %w", err)
	}
	return f.expect(ctx, "before", "after")
}

func checkInboxBytewise(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	names := []string{"a", "A", "a ", " a", "a\t", "á", "a\u0301", "ａ", "ss", "ß", "1", "01", "1.0", "1e0", "🙂", "🙃", "\\", "'", "%",
		strings.Repeat("x", core.MaxIDBytes), strings.Repeat("x", core.MaxIDBytes-1), strings.Repeat("x", core.MaxIDBytes-1) + "y",
		strings.Repeat("ü", core.MaxIDBytes/2)}
	for _, want := range []bool{true, false} {
		for _, s := range names {
			if err := firstError(c.expectOnce(ctx, billing, s, want), c.expectOnce(ctx, s, billing, want)); err != nil {
				return err
			}
		}
		for _, between := range []string{"", ":", "/", "|", ".", "-", "_", ",", " ", "\x1f"} { // the two are no one name, however they are joined
			err := firstError(c.expectOnce(ctx, "a", "b"+between+"c", want), c.expectOnce(ctx, "a"+between+"b", "c", want))
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func checkInboxMigrate(ctx context.Context, f DialectFixture) error {
	store, _ := core.Ability[core.InboxStore](f.Dialect)
	results := make(chan error, 4)
	for range cap(results) {
		go func() { results <- store.MigrateInbox(ctx) }()
	}
	var failed []error
	for range cap(results) {
		failed = append(failed, <-results)
	}
	if err := errors.Join(failed...); err != nil {
		return fmt.Errorf("several migrate at once: %w", err)
	}
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	if err := c.expectOnce(ctx, billing, "a", true); err != nil {
		return err
	}
	if err := store.MigrateInbox(ctx); err != nil {
		return fmt.Errorf("migrate what is there: %w", err)
	}
	return c.expectOnce(ctx, billing, "a", false)
}

func checkForgetAge(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	if err := c.expectOnce(ctx, billing, "a", true); err != nil {
		return err
	}
	if n, err := c.store.Forget(ctx, time.Hour, 100); err != nil || n != 0 {
		return firstError(err, fmt.Errorf("%d are forgotten that were received an hour ago, want none", n))
	}
	if err := c.expectOnce(ctx, billing, "a", false); err != nil {
		return err
	}
	err = eventually(ctx, "what was received is older than 10 ms and forgotten", func() (bool, error) {
		n, err := c.store.Forget(ctx, 10*time.Millisecond, 100)
		return n == 1, err
	})
	return firstError(err, c.expectOnce(ctx, billing, "a", true))
}

func checkForgetLimit(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for _, id := range []string{"e", "d", "c", "b", "a"} { // not in the order of their names
		if err := c.expectOnce(ctx, billing, id, true); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // not to wait for something: their times are to differ, in milliseconds too
	}
	// What comes again is no younger for it, and no older: the oldest goes first nevertheless, and the latest stays.
	for _, id := range []string{"a", "e"} {
		if err := c.expectOnce(ctx, billing, id, false); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond) // as above
	}
	for _, want := range []int{2, 2} {
		if n, err := c.store.Forget(ctx, 0, 2); err != nil || n != want {
			return firstError(err, fmt.Errorf("Forget with the limit 2 removes %d, want %d", n, want))
		}
	}
	if err := c.expectOnce(ctx, billing, "a", false); err != nil {
		return fmt.Errorf("the latest was forgotten before older ones: %w", err)
	}
	if n, err := c.store.Forget(ctx, 0, 100); err != nil || n != 1 {
		return firstError(err, fmt.Errorf("Forget removes %d, want the one that is left", n))
	}
	return c.forgetsOneConsumers(ctx)
}

// forgetsOneConsumers has two consumers receive one message, of which the first one's note goes.
func (c consumer) forgetsOneConsumers(ctx context.Context) error {
	if err := c.expectOnce(ctx, billing, "a", true); err != nil {
		return err
	}
	time.Sleep(2 * time.Millisecond) // as above
	if err := c.expectOnce(ctx, "shipping", "a", true); err != nil {
		return err
	}
	if n, err := c.store.Forget(ctx, 0, 1); err != nil || n != 1 {
		return firstError(err, fmt.Errorf("of two consumers that received one message Forget with the limit 1 removes %d", n))
	}
	if err := c.expectOnce(ctx, "shipping", "a", false); err != nil {
		return fmt.Errorf("one consumer's note was forgotten with another's: %w", err)
	}
	return c.expectOnce(ctx, billing, "a", true)
}

// A delivery whose COMMIT is not answered is repeated, as its broker does.
func checkInboxAnswerLost(ctx context.Context, f DialectFixture) error {
	c, err := f.consumer(ctx)
	if err != nil {
		return err
	}
	for _, id := range []string{"a", "b", "c"} {
		limited, cancel := context.WithTimeout(ctx, waitLimit)
		err := c.deliver(limited, id, func(tx Tx) error {
			heal, err := f.LoseAnswers()
			if err != nil {
				return err
			}
			committed := make(chan struct{})
			go func() {
				_ = tx.Commit() // whatever it says
				close(committed)
			}()
			select {
			case <-committed:
			case <-time.After(50 * time.Millisecond): // the client hears nothing, until the connection breaks
			}
			heal()
			select {
			case <-committed:
			case <-limited.Done():
				return errors.New("COMMIT does not return although its connection is broken")
			}
			return nil
		})
		cancel()
		if err != nil {
			return err
		}
		err = eventually(ctx, "a later delivery is received", func() (bool, error) { return c.deliver(ctx, id, Tx.Commit) == nil, nil })
		if err != nil {
			return err
		}
	}
	return f.expect(ctx, "a", "b", "c")
}
