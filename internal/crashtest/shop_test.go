package crashtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

const (
	writers   = 8
	customers = 200
)

// order is an event's payload. Seq counts the customer's committed orders from 1 without a gap, because the number is
// taken from the customer's row, which the transaction locks: a missing or early event shows.
type order struct {
	ID       string
	Customer int
	Seq      int64
}

// shop is the application: an orders table, and an event for each order in the same transaction.
type shop struct {
	db     *sql.DB
	outbox *core.Outbox
	topic  string
	tokens chan struct{} // one for each order that may be written now
}

func newShop(t *testing.T, dsn string, dialect core.Dialect, topic string) *shop {
	t.Helper()
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	for _, query := range []string{
		`CREATE TABLE customers (id int PRIMARY KEY, seq bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE orders (id text PRIMARY KEY, customer int NOT NULL REFERENCES customers, seq bigint NOT NULL)`,
		`INSERT INTO customers (id) SELECT generate_series(1, ` + strconv.Itoa(customers) + `)`,
	} {
		if _, err := db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	return &shop{db: db, outbox: core.NewOutbox(dialect, core.OutboxConfig{}), topic: topic, tokens: make(chan struct{})}
}

// write commits one order for each token, from several writers, until tokens is closed.
func (s *shop) write(ctx context.Context, seed uint64) error {
	errs := make([]error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range s.tokens {
				if err := s.commitOne(ctx, random); err != nil {
					errs[w] = err
					for range s.tokens { // the others go on, and the dispenser is not left waiting
					}
				}
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

// commitOne commits an order. Every tenth or so is first tried in a transaction that rolls back, event and all.
func (s *shop) commitOne(ctx context.Context, random *rand.Rand) error {
	for random.IntN(10) == 0 {
		if err := s.place(ctx, random, (*sql.Tx).Rollback); err != nil {
			return err
		}
	}
	return s.place(ctx, random, (*sql.Tx).Commit)
}

func (s *shop) place(ctx context.Context, random *rand.Rand, end func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	o := order{ID: core.NewID(), Customer: 1 + random.IntN(customers)}
	err = tx.QueryRowContext(ctx, `UPDATE customers SET seq = seq + 1 WHERE id = $1 RETURNING seq`, o.Customer).Scan(&o.Seq)
	if err != nil {
		return fmt.Errorf("update customer: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO orders (id, customer, seq) VALUES ($1, $2, $3)`, o.ID, o.Customer, o.Seq)
	if err != nil {
		return fmt.Errorf("insert order: %w", err)
	}
	payload, err := json.Marshal(o)
	if err != nil {
		return err
	}
	err = s.outbox.Enqueue(ctx, tx, core.Message{ID: o.ID, Topic: s.topic, Key: strconv.Itoa(o.Customer), Payload: payload})
	if err != nil {
		return err
	}
	return end(tx)
}

// release lets the writers commit n more orders, and returns when the last of them is begun.
func (s *shop) release(n int) {
	for range n {
		s.tokens <- struct{}{}
	}
}

// orders returns every committed order by id.
func (s *shop) orders(ctx context.Context) (map[string]order, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, customer, seq FROM orders`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	committed := map[string]order{}
	for rows.Next() {
		var o order
		if err := rows.Scan(&o.ID, &o.Customer, &o.Seq); err != nil {
			return nil, err
		}
		committed[o.ID] = o
	}
	return committed, rows.Err()
}

// pending counts the events that are still in the outbox.
func (s *shop) pending(ctx context.Context) (n int, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT count(*) FROM outbox`).Scan(&n)
	return n, err
}
