package core_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite" // a real database, to see what transactions do

	"github.com/lockstep-go/lockstep/core"
)

// eventsDialect is the least that writes events into a real database: core's tests know no adapter.
type eventsDialect struct{ core.Dialect }

func (eventsDialect) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	for _, m := range msgs {
		if _, err := tx.ExecContext(ctx, `INSERT INTO events (id) VALUES (?)`, m.ID); err != nil {
			return err
		}
	}
	return nil
}

func (eventsDialect) Retryable(error) bool { return false }

// shopDB is a database with an application's table and one for events.
type shopDB struct {
	*sql.DB
	outbox *core.Outbox
}

func newShopDB(t *testing.T) shopDB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "shop.db")+"?_pragma=busy_timeout(10000)&_txlock=immediate")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE orders (id TEXT); CREATE TABLE events (id TEXT)`); err != nil {
		t.Fatal(err)
	}
	return shopDB{db, core.NewOutbox(eventsDialect{}, core.OutboxConfig{})}
}

// expect compares what is committed with ids of orders, then "/", then ids of events.
func (s shopDB) expect(t *testing.T, want string) {
	t.Helper()
	var got string
	err := s.QueryRowContext(t.Context(), `SELECT
		coalesce((SELECT group_concat(id, ' ') FROM orders), '') || '/' ||
		coalesce((SELECT group_concat(id, ' ') FROM events), '')`).Scan(&got)
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("committed orders/events are %q, want %q", got, want)
	}
}

func insertOrder(ctx context.Context, tx core.Execer, id string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES (?)`, id)
	return err
}

func TestARefusedEnqueueLeavesTheTransactionUsable(t *testing.T) {
	good := core.Message{ID: "good", Topic: "orders"}
	refused := map[string]core.Message{
		"empty topic":      {},
		"long topic":       {Topic: strings.Repeat("t", core.MaxTopicBytes+1)},
		"long key":         {Topic: "t", Key: strings.Repeat("k", core.MaxKeyBytes+1)},
		"long id":          {Topic: "t", ID: strings.Repeat("i", core.MaxIDBytes+1)},
		"id taken":         {Topic: "t", ID: "good"},
		"bad header name":  {Topic: "t", Headers: map[string]string{"": "v"}},
		"long header":      {Topic: "t", Headers: map[string]string{"h": strings.Repeat("v", core.MaxHeadersBytes)}},
		"long payload":     {Topic: "t", Payload: make([]byte, core.MaxPayloadBytes+1)},
		"impossible delay": {Topic: "t", NotBefore: time.Unix(-1, 0)},
	}
	for name, bad := range refused {
		t.Run(name, func(t *testing.T) {
			shop := newShopDB(t)
			tx, err := shop.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			var fault *core.MessageError
			if err := shop.outbox.Enqueue(t.Context(), tx, good, bad); !errors.As(err, &fault) {
				t.Errorf("Enqueue: got %v, want a *MessageError", err)
			}
			if err := insertOrder(t.Context(), tx, "1"); err != nil {
				t.Errorf("a statement after the refusal: %v", err)
			}
			if err := shop.outbox.Enqueue(t.Context(), tx, good); err != nil {
				t.Errorf("Enqueue after the refusal: %v", err)
			}
			if err := tx.Commit(); err != nil {
				t.Errorf("commit: %v", err)
			}
			shop.expect(t, "1/good")
		})
	}
}

func TestEventsGoWithTheirSavepoint(t *testing.T) {
	shop := newShopDB(t)
	err := shop.outbox.InTx(t.Context(), shop, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		for _, id := range []string{"kept", "undone", "released"} {
			if _, err := tx.ExecContext(ctx, "SAVEPOINT s"); err != nil {
				return nil, err
			}
			if err := insertOrder(ctx, tx, id); err != nil {
				return nil, err
			}
			if err := shop.outbox.Enqueue(ctx, tx, core.Message{ID: id, Topic: "orders"}); err != nil {
				return nil, err
			}
			end := "RELEASE s"
			if id == "undone" {
				end = "ROLLBACK TO s"
			}
			if _, err := tx.ExecContext(ctx, end); err != nil {
				return nil, err
			}
		}
		return []core.Message{{ID: "last", Topic: "orders"}}, nil
	})
	if err != nil {
		t.Errorf("InTx: got %v, want nil", err)
	}
	shop.expect(t, "kept released/kept released last")
}

func TestInTxIsAllOrNothing(t *testing.T) {
	event := []core.Message{{ID: "event", Topic: "orders"}}
	tests := map[string]struct {
		end  func(cancel func()) ([]core.Message, error)
		want string
	}{
		"event":           {func(func()) ([]core.Message, error) { return event, nil }, "1/event"},
		"no events":       {func(func()) ([]core.Message, error) { return core.NoEvents, nil }, "1/"},
		"forgotten":       {func(func()) ([]core.Message, error) { return nil, nil }, "/"},
		"refused":         {func(func()) ([]core.Message, error) { return []core.Message{{}}, nil }, "/"},
		"error":           {func(func()) ([]core.Message, error) { return event, errOfFunction }, "/"},
		"panic":           {func(func()) ([]core.Message, error) { panic("boom") }, "/"},
		"context is done": {func(cancel func()) ([]core.Message, error) { cancel(); return event, nil }, "/"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			shop := newShopDB(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			err := recovered(func() error {
				return shop.outbox.InTx(ctx, shop, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
					if err := insertOrder(ctx, tx, "1"); err != nil {
						return nil, err
					}
					return tt.end(cancel)
				})
			})
			if succeeds := tt.want != "/"; (err == nil) != succeeds {
				t.Errorf("InTx: got %v", err)
			}
			shop.expect(t, tt.want)
		})
	}
}

// recovered makes a panic of f an error.
func recovered(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}
