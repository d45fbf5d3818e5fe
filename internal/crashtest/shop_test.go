package crashtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

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
	like   dialectOfSQL
	outbox *core.Outbox
	topic  string
	tokens chan struct{} // one for each order that may be written now
	// tolerant makes writers try again when the database fails them.
	tolerant bool
	written  chan error
}

// dialectOfSQL is what the shop's own statements differ in.
type dialectOfSQL struct {
	driver    string
	id        string // the type of an order's id
	arguments *strings.Replacer
	returning bool // UPDATE … RETURNING
}

var (
	likePostgres = dialectOfSQL{"postgres", "text", strings.NewReplacer(), true} // and SQLite
	likeMySQL    = dialectOfSQL{"mysql", "varchar(64)", strings.NewReplacer("$1", "?", "$2", "?", "$3", "?"), false}
)

func likeOf(on database) dialectOfSQL {
	if on == onMySQL || on == onMariaDB {
		return likeMySQL
	}
	return likePostgres
}

// newShop makes the tables of the shop and of its outbox.
func newShop(t *testing.T, on database, dsn, topic string) *shop {
	t.Helper()
	dialect, err := on.open(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	like := likeOf(on)
	s := &shop{like: like, outbox: core.NewOutbox(dialect, core.OutboxConfig{}), topic: topic, tokens: make(chan struct{}), written: make(chan error, 1)}
	if own, ok := dialect.(interface{ DB() *sql.DB }); ok {
		s.db = own.DB() // SQLite's one writing connection
	} else {
		if s.db, err = sql.Open(like.driver, dsn); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.db.Close() })
	}
	for _, query := range []string{
		`CREATE TABLE customers (id int PRIMARY KEY, seq bigint NOT NULL DEFAULT 0)`,
		`CREATE TABLE orders (id ` + like.id + ` PRIMARY KEY, customer int NOT NULL REFERENCES customers (id), seq bigint NOT NULL)`,
		`INSERT INTO customers (id) WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ` +
			strconv.Itoa(customers) + `) SELECT i FROM n`,
	} {
		if _, err := s.db.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// open lets the writers begin. They commit one order for each token.
func (s *shop) open(ctx context.Context, seed uint64) {
	go func() { s.written <- s.write(ctx, seed) }()
}

// close ends the writers once they have committed what they began.
func (s *shop) close(t *testing.T) {
	t.Helper()
	close(s.tokens)
	if err := <-s.written; err != nil {
		t.Fatal(err)
	}
}

// trade opens the shop and lets it commit an order every so often, at most, until the returned function is called.
func (s *shop) trade(t *testing.T, seed uint64, every time.Duration) (closing func()) {
	s.open(t.Context(), seed)
	enough, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		pace := time.NewTicker(every)
		defer pace.Stop()
		for {
			select {
			case <-enough:
				return
			case <-pace.C:
			}
			select {
			case <-enough:
				return
			case s.tokens <- struct{}{}:
			}
		}
	}()
	return func() {
		t.Helper()
		close(enough)
		<-stopped
		s.close(t)
	}
}

// write commits one order for each token, from several writers, until tokens is closed.
func (s *shop) write(ctx context.Context, seed uint64) error {
	errs := make([]error, writers)
	var group sync.WaitGroup
	for w := range writers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			for range s.tokens {
				if err := s.persist(ctx, random); err != nil {
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

// persist commits one order, or, where the shop is tolerant, as many as it takes: a COMMIT without an answer may have
// been one.
func (s *shop) persist(ctx context.Context, random *rand.Rand) error {
	for {
		err := s.commitOne(ctx, random)
		if err == nil || !s.tolerant || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond): // the pace of a client that tries again
		}
	}
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
	if o.Seq, err = s.next(ctx, tx, o.Customer); err != nil {
		return fmt.Errorf("update customer: %w", err)
	}
	_, err = tx.ExecContext(ctx, s.like.arguments.Replace(`INSERT INTO orders (id, customer, seq) VALUES ($1, $2, $3)`), o.ID, o.Customer, o.Seq)
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

// next takes a customer's next number, and locks the customer.
func (s *shop) next(ctx context.Context, tx *sql.Tx, customer int) (seq int64, err error) {
	const update, read = `UPDATE customers SET seq = seq + 1 WHERE id = $1`, `SELECT seq FROM customers WHERE id = $1`
	if s.like.returning {
		err = tx.QueryRowContext(ctx, update+` RETURNING seq`, customer).Scan(&seq)
		return seq, err
	}
	if _, err := tx.ExecContext(ctx, s.like.arguments.Replace(update), customer); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, s.like.arguments.Replace(read), customer).Scan(&seq)
	return seq, err
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
