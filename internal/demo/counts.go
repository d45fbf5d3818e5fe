package demo

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// Counts is what went wrong between a service's database and the broker.
type Counts struct {
	// OrdersWithoutEvent counts orders in the database that the broker never heard of.
	OrdersWithoutEvent int `json:"orders_without_event"`
	// EventsWithoutOrder counts orders that the broker heard of and that are not in the database.
	EventsWithoutOrder int `json:"events_without_order"`
	// EventsDeliveredTwice counts deliveries beyond the first of an order.
	EventsDeliveredTwice int `json:"events_delivered_twice"`
	// EffectsAppliedTwice counts orders whose effect the consumer applied more than once.
	EffectsAppliedTwice int `json:"effects_applied_twice"`
}

// consumer ships what it hears was ordered. It recognises a re-delivery by the event's id.
type consumer struct {
	seen  map[string]bool // by event id
	ships map[string]int  // by order id: how often it was shipped
}

func (c *consumer) receive(e event, orderID string) {
	if !c.seen[e.ID] {
		c.seen[e.ID] = true
		c.ships[orderID]++
	}
}

// countResult compares the orders in the database with the events in the broker's log.
func countResult(ctx context.Context, database string, events []event) (Result, error) {
	orders, err := ordersIn(ctx, database)
	if err != nil {
		return Result{}, err
	}
	deliveries := map[string]int{}
	shop := consumer{seen: map[string]bool{}, ships: map[string]int{}}
	for _, e := range events {
		var o order
		if err := json.Unmarshal(e.Payload, &o); err != nil {
			return Result{}, fmt.Errorf("read event %s: %w", e.ID, err)
		}
		deliveries[o.ID]++
		shop.receive(e, o.ID)
	}

	result := Result{Orders: len(orders), Events: len(events)}
	for id := range orders {
		if deliveries[id] == 0 {
			result.Counts.OrdersWithoutEvent++
		}
	}
	for id, n := range deliveries {
		if !orders[id] {
			result.Counts.EventsWithoutOrder++
		}
		result.Counts.EventsDeliveredTwice += n - 1
	}
	for _, n := range shop.ships {
		if n > 1 {
			result.Counts.EffectsAppliedTwice++
		}
	}
	return result, nil
}

func ordersIn(ctx context.Context, database string) (map[string]bool, error) {
	dialect, err := sqlite.Open(database, sqlite.Config{})
	if err != nil {
		return nil, err
	}
	defer dialect.Close()
	rows, err := dialect.DB().QueryContext(ctx, `SELECT id FROM orders`)
	if err != nil {
		return nil, fmt.Errorf("select orders: %w", err)
	}
	defer rows.Close()
	orders := map[string]bool{}
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("select orders: %w", err)
		}
		orders[id] = true
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("select orders: %w", err)
	}
	return orders, nil
}
