package ormtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/lockstep-go/lockstep/core"
)

// The two drivers that a database/sql application uses with PostgreSQL.
var drivers = []string{"postgres", "pgx"}

// through returns s with a pool of that driver on dsn.
func (s shop) through(t *testing.T, driver, dsn string) shop {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s.db = db
	return s
}

// insert runs InTx with a function that inserts the order "kept" and returns its event. before is called last in it.
func (s shop) insert(ctx context.Context, retries int, before func(*sql.Tx) error) error {
	opts := core.InTxOptions{Retries: retries}
	return s.outbox.InTx(ctx, s.db, opts, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('kept')`); err != nil {
			return nil, err
		}
		return []core.Message{event("kept")}, before(tx)
	})
}

// The order and its event are there, and the driver says that COMMIT failed: the reason for ErrCommitUnknown. Had InTx
// run the function again, it would have failed on the primary key, or without one inserted everything twice.
func TestALostAnswerToCommitIsUnknown(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			dsn, proxy := throughLoseAnswer(t, direct.dsn, false)
			s := direct.through(t, driver, dsn)
			runs := 0
			err := s.insert(t.Context(), 3, func(*sql.Tx) error {
				runs++
				proxy.armed.Store(true)
				return nil
			})
			if !errors.Is(err, core.ErrCommitUnknown) {
				t.Errorf("InTx: got %v, want ErrCommitUnknown", err)
			}
			if runs != 1 {
				t.Errorf("the function ran %d times, want once", runs)
			}
			<-proxy.lost
			direct.expectKept(t)
		})
	}
}

// pgx alone: lib/pq waits for a silent server whatever its context says.
func TestASilentCommitIsUnknownWhenTheContextEnds(t *testing.T) {
	direct := newPostgres(t)
	dsn, proxy := throughLoseAnswer(t, direct.dsn, true)
	s := direct.through(t, "pgx", dsn)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-proxy.lost
		cancel()
	}()
	err := s.insert(ctx, 3, func(*sql.Tx) error {
		proxy.armed.Store(true)
		return nil
	})
	if !errors.Is(err, core.ErrCommitUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("InTx: got %v, want ErrCommitUnknown and the context's error", err)
	}
	direct.expectKept(t)
}

// What InTx calls a rollback is one.
func TestADeferredConstraintIsAnOrdinaryError(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			_, err := s.db.ExecContext(t.Context(), `CREATE TABLE items (id text PRIMARY KEY, order_id text NOT NULL
				REFERENCES orders DEFERRABLE INITIALLY DEFERRED)`)
			if err != nil {
				t.Fatal(err)
			}
			err = s.insert(t.Context(), 0, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(t.Context(), `INSERT INTO items (id, order_id) VALUES ('1', 'missing')`)
				return err
			})
			s.expectRolledBack(t, err, "23503")
		})
	}
}

// Two transactions that each read what the other writes: PostgreSQL refuses one of them at its COMMIT.
func TestASerialisationFailureAtCommitIsAnOrdinaryError(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			serializable := sql.TxOptions{Isolation: sql.LevelSerializable}
			err := s.outbox.InTx(t.Context(), s.db, core.InTxOptions{Tx: serializable},
				func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
					return []core.Message{event("kept")}, writeSkew(ctx, s.db, tx, serializable)
				})
			s.expectRolledBack(t, err, "40001")
		})
	}
}

// Transactions that each count the orders and add one: only run again can all of them commit, and what a run that was
// rolled back enqueued is not there.
func TestInTxRunsAgainUntilItIsSerialised(t *testing.T) {
	const writers, each = 4, 10
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			opts := core.InTxOptions{Tx: sql.TxOptions{Isolation: sql.LevelSerializable}, Retries: 100}
			var runs atomic.Int64
			var group sync.WaitGroup
			for range writers {
				group.Go(func() {
					for range each {
						if err := s.outbox.InTx(t.Context(), s.db, opts, s.addOne(&runs)); err != nil {
							t.Errorf("InTx: %v", err)
							return
						}
					}
				})
			}
			group.Wait()
			var last, events string
			err := s.db.QueryRowContext(t.Context(), `SELECT (SELECT max(id::int) FROM orders),
				(SELECT count(*) || ' from ' || min(id::int) || ' to ' || max(id::int) FROM outbox)`).Scan(&last, &events)
			if err != nil {
				t.Fatal(err)
			}
			if last != "40" || events != "40 from 1 to 40" {
				t.Errorf("the last order is %s and the events are %s, want 40, and 40 from 1 to 40", last, events)
			}
			if runs.Load() <= writers*each {
				t.Errorf("%d runs for %d transactions: nothing was run again, and the test shows nothing", runs.Load(), writers*each)
			}
		})
	}
}

// addOne is a function for InTx that takes the next number for its order.
func (s shop) addOne(runs *atomic.Int64) func(context.Context, *sql.Tx) ([]core.Message, error) {
	return func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		runs.Add(1)
		var id string
		err := tx.QueryRowContext(ctx, `INSERT INTO orders (id) SELECT count(*) + 1 FROM orders RETURNING id`).Scan(&id)
		if err != nil {
			return nil, fmt.Errorf("insert order: %w", err)
		}
		return []core.Message{event(id)}, nil
	}
}

// writeSkew lets another transaction commit, so that tx cannot.
func writeSkew(ctx context.Context, db *sql.DB, tx *sql.Tx, opts sql.TxOptions) error {
	other, err := db.BeginTx(ctx, &opts)
	if err != nil {
		return err
	}
	defer other.Rollback()
	for _, t := range []*sql.Tx{tx, other} {
		var n int
		if err := t.QueryRowContext(ctx, `SELECT count(*) FROM orders`).Scan(&n); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('kept')`); err != nil {
		return err
	}
	if _, err := other.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('of the other')`); err != nil {
		return err
	}
	return other.Commit()
}

// A function that hides an error from InTx cannot make it commit half of its work.
func TestAHiddenErrorDoesNotCommit(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			err := s.outbox.InTx(t.Context(), s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
				for range 2 {
					_, _ = tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('kept')`)
				}
				return core.NoEvents, nil
			})
			if err == nil {
				t.Error("InTx: got nil, want an error")
			}
			s.expectEmpty(t)
		})
	}
}

func TestAContextThatEndsBeforeCommitLeavesNoDoubt(t *testing.T) {
	for _, driver := range drivers {
		t.Run(driver, func(t *testing.T) {
			direct := newPostgres(t)
			s := direct.through(t, driver, direct.dsn)
			ctx, cancel := context.WithCancel(t.Context())
			err := s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
				defer cancel()
				_, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES ('kept')`)
				return core.NoEvents, err // with an event it would be the Enqueue that fails
			})
			if !errors.Is(err, context.Canceled) || errors.Is(err, core.ErrCommitUnknown) {
				t.Errorf("InTx: got %v, want the context's error and no doubt", err)
			}
			s.expectEmpty(t)
		})
	}
}

func (s shop) expectRolledBack(t *testing.T, err error, state string) {
	t.Helper()
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) || coded.SQLState() != state {
		t.Errorf("InTx: got %v, want one with SQLSTATE %s", err, state)
	}
	if errors.Is(err, core.ErrCommitUnknown) {
		t.Errorf("InTx: got %v, want no doubt", err)
	}
	s.expectEmpty(t)
}

// expectEmpty checks that nothing of the transaction is committed.
func (s shop) expectEmpty(t *testing.T) {
	t.Helper()
	var orders, events int
	err := s.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM orders WHERE id = 'kept'), (SELECT count(*) FROM outbox)`).
		Scan(&orders, &events)
	if err != nil {
		t.Fatal(err)
	}
	if orders != 0 || events != 0 {
		t.Errorf("%d orders and %d events are committed, want none", orders, events)
	}
}
