// Command dual-write places one order in four ways, each under four faults, and says what is left of the order and of its
// event. It needs no server: go run ./examples/dual-write
//
//	ways.go   the four ways
//	main.go   the faults, and the counting
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// Fault is what goes wrong, once.
type Fault string

// The faults.
const (
	brokerAway   Fault = "broker away"   // it stores nothing, and says so
	answerLost   Fault = "answer lost"   // it stores the event, and nobody hears of that
	killed       Fault = "killed"        // the process ends between its two writes
	commitFailed Fault = "COMMIT failed" // a deferred constraint
)

// Order is what the shop sells.
type Order struct{ ID, Customer string }

func (o Order) event() core.Message {
	return core.Message{ID: "placed-" + o.ID, Topic: "orders", Key: o.ID, Payload: []byte(o.Customer)}
}

// insert fails at COMMIT where there is no such customer.
func insert(ctx context.Context, tx *sql.Tx, order Order) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer) VALUES (?, ?)`, order.ID, order.Customer)
	return err
}

// Shop is the application.
type Shop struct {
	db     *sql.DB
	outbox *core.Outbox
	broker *Broker
	fault  Fault
}

// death stands for SIGKILL: it runs no code of the shop's on its way, but what the database does by itself.
type death struct{}

func (s *Shop) mayBeKilled() {
	if s.fault == killed {
		panic(death{})
	}
}

// Broker is a broker in memory with a fault at its first call.
type Broker struct {
	fault  Fault
	stored []string
}

// Publish implements core.Broker.
func (b *Broker) Publish(_ context.Context, msgs []core.Message) error {
	fault := b.fault
	b.fault = ""
	if fault == brokerAway {
		return fmt.Errorf("%w: connection refused", core.ErrUnavailable)
	}
	for _, m := range msgs {
		b.stored = append(b.stored, m.ID)
	}
	if fault == answerLost {
		return fmt.Errorf("%w: connection reset", core.ErrUncertain)
	}
	return nil
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	faults := []Fault{brokerAway, answerLost, killed, commitFailed}
	fmt.Printf("%-22s %-17s %-17s %-17s %s\n", "", faults[0], faults[1], faults[2], faults[3])
	for _, way := range []struct {
		name  string
		place func(*Shop, context.Context, Order) error
	}{
		{"database, then broker", (*Shop).databaseFirst},
		{"broker, then database", (*Shop).brokerFirst},
		{"inside the transaction", (*Shop).insideTx},
		{"outbox", (*Shop).withOutbox},
	} {
		fmt.Printf("%-22s", way.name)
		for i, fault := range faults {
			left, err := trial(ctx, fault, way.place)
			if err != nil {
				return err
			}
			if i < len(faults)-1 {
				left = fmt.Sprintf("%-17s", left)
			}
			fmt.Print(" ", left)
		}
		fmt.Println()
	}
	return nil
}

// trial places an order while fault happens, lets a relay work afterwards, and says what is left.
func trial(ctx context.Context, fault Fault, place func(*Shop, context.Context, Order) error) (left string, err error) {
	dir, err := os.MkdirTemp("", "lockstep-dual-write-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	dialect, err := sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{})
	if err != nil {
		return "", err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return "", err
	}
	if _, err := dialect.DB().ExecContext(ctx, `
		PRAGMA foreign_keys = ON;
		CREATE TABLE customers (name TEXT PRIMARY KEY);
		CREATE TABLE orders (id TEXT PRIMARY KEY, customer TEXT REFERENCES customers DEFERRABLE INITIALLY DEFERRED);
		INSERT INTO customers VALUES ('ann')`); err != nil {
		return "", err
	}
	broker := &Broker{fault: fault}
	shop := &Shop{dialect.DB(), core.NewOutbox(dialect, core.OutboxConfig{}), broker, fault}
	order := Order{ID: "42", Customer: "ann"}
	if fault == commitFailed {
		order.Customer = "nobody"
	}
	live(func() { _ = place(shop, ctx, order) }) // what it returns is for the customer, and changes nothing
	if err := relay(ctx, dialect, broker); err != nil {
		return "", err
	}
	var orders int
	if err := dialect.DB().QueryRowContext(ctx, `SELECT count(*) FROM orders`).Scan(&orders); err != nil {
		return "", err
	}
	return verdict(orders, len(broker.stored))
}

// live calls f, which may be killed.
func live(f func()) {
	defer func() {
		if p := recover(); p != nil && p != (death{}) {
			panic(p)
		}
	}()
	f()
}

// relay works until nothing is left to deliver.
func relay(ctx context.Context, dialect core.Dialect, broker core.Broker) error {
	for {
		r, err := core.NewRelay(dialect, broker, core.RelayConfig{})
		if err != nil {
			return err
		}
		held, err := r.RunOnce(ctx)
		if err != nil || len(held) == 0 {
			return err
		}
	}
}

func verdict(orders, events int) (string, error) {
	switch {
	case orders == 0 && events == 0:
		return "neither", nil
	case orders == 1 && events == 0:
		return "EVENT LOST", nil
	case orders == 0 && events == 1:
		return "NO SUCH ORDER", nil
	case orders == 1 && events == 1:
		return "both", nil
	case orders == 1 && events == 2:
		return "both, sent twice", nil // with the same id
	}
	return "", fmt.Errorf("%d orders and %d events", orders, events)
}
