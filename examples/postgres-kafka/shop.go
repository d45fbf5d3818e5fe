package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

// Order is what a customer ordered.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Item     string `json:"item"`
}

// The events of an order, as the header event-type has them.
const (
	placed    = "OrderPlaced"
	paid      = "OrderPaid"
	cancelled = "OrderCancelled"
)

var errSoldOut = errors.New("sold out")

// Shop takes orders. Each change is a row of its own tables and an event, in one transaction.
type Shop struct {
	db     *sql.DB
	outbox *core.Outbox
	topic  string
}

func openShop(ctx context.Context, db *sql.DB, outbox *core.Outbox, topic string) (*Shop, error) {
	_, err := db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS stock (item text PRIMARY KEY, pieces int CHECK (pieces >= 0));
		CREATE TABLE IF NOT EXISTS shop_orders (id text PRIMARY KEY, customer text, item text, state text);
		INSERT INTO stock VALUES ('book', 1), ('pen', 1) ON CONFLICT (item) DO UPDATE SET pieces = 1`)
	return &Shop{db, outbox, topic}, err
}

// Place takes an order. Where the item is sold out it returns errSoldOut, and there is neither an order nor an event.
func (s *Shop) Place(ctx context.Context, order Order) error {
	return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		if _, err := tx.ExecContext(ctx, `INSERT INTO shop_orders VALUES ($1, $2, $3, $4)`,
			order.ID, order.Customer, order.Item, placed); err != nil {
			return nil, err
		}
		_, err := tx.ExecContext(ctx, `UPDATE stock SET pieces = pieces - 1 WHERE item = $1`, order.Item)
		if fault := new(pq.Error); errors.As(err, &fault) && fault.Code.Name() == "check_violation" {
			return nil, errSoldOut
		}
		if err != nil {
			return nil, err
		}
		return s.event(placed, order)
	})
}

// Change notes that an order was paid or cancelled. The events of one order arrive in this order, because the transactions
// that write them update the same row.
func (s *Shop) Change(ctx context.Context, id, state string) error {
	return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		order := Order{ID: id}
		err := tx.QueryRowContext(ctx, `UPDATE shop_orders SET state = $1 WHERE id = $2 AND state = $3 RETURNING customer, item`,
			state, id, placed).Scan(&order.Customer, &order.Item)
		if errors.Is(err, sql.ErrNoRows) {
			return nil, fmt.Errorf("order %s is not open", id)
		}
		if err != nil {
			return nil, err
		}
		return s.event(state, order)
	})
}

func (s *Shop) event(what string, order Order) ([]core.Message, error) {
	payload, err := json.Marshal(order)
	return []core.Message{{Topic: s.topic, Key: order.ID, Headers: map[string]string{"event-type": what}, Payload: payload}}, err
}
