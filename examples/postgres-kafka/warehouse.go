package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"
)

// Warehouse ships what was paid. It hears of orders from Kafka alone; its table could be in another database.
//
// Delivery is at least once, so each event may come again, together with those behind it. Its effects are made so that this
// does no harm: a row that is there is not inserted again, and a state that is set is set again to the same.
// examples/mysql-rabbitmq is for effects that cannot be made so.
type Warehouse struct {
	db     *sql.DB
	reader *kafkago.Reader
}

func openWarehouse(ctx context.Context, db *sql.DB, brokers []string, topic string) (*Warehouse, error) {
	_, err := db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS shipments (id text PRIMARY KEY, what text, state text)`)
	return &Warehouse{db, kafkago.NewReader(kafkago.ReaderConfig{
		Brokers: brokers, Topic: topic, GroupID: topic + ".warehouse", StartOffset: kafkago.FirstOffset, MaxWait: time.Second,
	})}, err
}

// Close leaves the consumer group.
func (w *Warehouse) Close() error { return w.reader.Close() }

// Work handles events until each of these orders is shipped or cancelled, and then says what became of them.
func (w *Warehouse) Work(ctx context.Context, orders []string) error {
	open := slices.Clone(orders)
	for len(open) > 0 {
		m, err := w.reader.FetchMessage(ctx)
		if err != nil {
			return err
		}
		final, err := w.handle(ctx, m)
		if err != nil {
			return err
		}
		if final {
			open = slices.DeleteFunc(open, func(id string) bool { return id == string(m.Key) })
		}
		// Only now: a crash before this line brings the event again, and never loses it.
		if err := w.reader.CommitMessages(ctx, m); err != nil {
			return err
		}
	}
	for _, id := range orders {
		var what, state string
		if err := w.db.QueryRowContext(ctx, `SELECT what, state FROM shipments WHERE id = $1`, id).Scan(&what, &state); err != nil {
			return err
		}
		fmt.Printf("warehouse: %s, %s\n", what, state)
	}
	return nil
}

func (w *Warehouse) handle(ctx context.Context, m kafkago.Message) (final bool, err error) {
	event := header(m, "event-type")
	if event != placed && event != paid && event != cancelled {
		return false, nil // somebody else's
	}
	var order Order
	if err := json.Unmarshal(m.Value, &order); err != nil {
		return false, fmt.Errorf("message %d of %s: %w", m.Offset, m.Topic, err)
	}
	switch event {
	case placed:
		_, err := w.db.ExecContext(ctx, `INSERT INTO shipments VALUES ($1, $2, 'waiting') ON CONFLICT (id) DO NOTHING`,
			order.ID, order.Item+" for "+order.Customer)
		return false, err
	case paid:
		return true, w.set(ctx, order.ID, "shipped")
	default:
		return true, w.set(ctx, order.ID, "cancelled")
	}
}

// set relies on the order of a key: an order is never paid before it was placed.
func (w *Warehouse) set(ctx context.Context, id, state string) error {
	result, err := w.db.ExecContext(ctx, `UPDATE shipments SET state = $1 WHERE id = $2`, state, id)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return fmt.Errorf("order %s is %s before it was placed: %w", id, state, err)
	}
	return nil
}

func header(m kafkago.Message, name string) string {
	for _, h := range m.Headers {
		if h.Key == name {
			return string(h.Value)
		}
	}
	return ""
}
