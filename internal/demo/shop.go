package demo

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

const lockstepName = "lockstep"

// service is one way to write the order service.
type service struct {
	name  string // also its broker topic
	title string
	place func(context.Context, *shop, order) error
	relay bool // its events are delivered by a relay
	// relayDialect and relayBroker let tests break the relay. Nil leaves it as it is.
	relayDialect func(core.Dialect) core.Dialect
	relayBroker  func(core.Broker) core.Broker
}

var fourServices = []service{
	{name: "database_first", title: "database, then broker", place: databaseFirst},
	{name: "broker_first", title: "broker, then database", place: brokerFirst},
	{name: "inside_tx", title: "publish inside the tx", place: insideTx},
	{name: lockstepName, title: "Lockstep", place: lockstep, relay: true},
}

// A product is missing at once, a customer at COMMIT.
const shopSchema = `
CREATE TABLE customers (id TEXT PRIMARY KEY) STRICT;
CREATE TABLE products (id TEXT PRIMARY KEY) STRICT;
CREATE TABLE orders (
  id       TEXT PRIMARY KEY,
  customer TEXT NOT NULL REFERENCES customers DEFERRABLE INITIALLY DEFERRED,
  product  TEXT NOT NULL REFERENCES products,
  cents    INTEGER NOT NULL
) STRICT;
INSERT INTO customers VALUES ('` + knownCustomer + `');
INSERT INTO products VALUES ('` + knownProduct + `');`

// createShop makes the database file that a service and its relay open.
func createShop(ctx context.Context, database string) error {
	dialect, err := sqlite.Open(database, sqlite.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	if _, err := dialect.DB().ExecContext(ctx, shopSchema); err != nil {
		return fmt.Errorf("create the shop's tables: %w", err)
	}
	return nil
}

// shop is what the four services share.
type shop struct {
	topic     string
	db        *sql.DB
	outbox    *core.Outbox // for Lockstep
	publisher message.Publisher

	current request // the one being served; the crash points look at it
}

// openShop opens the database for a service. db has one connection, so the pragma holds for all its transactions.
func openShop(ctx context.Context, dialect *sqlite.Dialect, topic string, p message.Publisher) (*shop, error) {
	if _, err := dialect.DB().ExecContext(ctx, `PRAGMA foreign_keys = ON`); err != nil {
		return nil, fmt.Errorf("turn foreign keys on: %w", err)
	}
	return &shop{topic: topic, db: dialect.DB(), outbox: core.NewOutbox(dialect, core.OutboxConfig{}), publisher: p}, nil
}

// serve handles one request by way of place.
func (s *shop) serve(ctx context.Context, r request, place func(context.Context, *shop, order) error) error {
	s.current = r
	if r.AddMissing {
		if err := s.addMissing(ctx, r.Order); err != nil {
			return err
		}
	}
	var known bool
	err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM orders WHERE id = ?)`, r.Order.ID).Scan(&known)
	switch {
	case err != nil:
		return fmt.Errorf("look for the order: %w", err)
	case known:
		return nil // the customer tries again: this is what an idempotency key is for
	}
	return place(ctx, s, r.Order)
}

// addMissing adds the customer and the product of an order that could not be placed without them.
func (s *shop) addMissing(ctx context.Context, o order) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO customers VALUES (?)`, o.Customer)
		if err != nil {
			return fmt.Errorf("insert customer: %w", err)
		}
		if _, err := tx.ExecContext(ctx, `INSERT OR IGNORE INTO products VALUES (?)`, o.Product); err != nil {
			return fmt.Errorf("insert product: %w", err)
		}
		return nil
	})
}

func (s *shop) inTx(ctx context.Context, work func(*sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := work(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func insertOrder(ctx context.Context, tx *sql.Tx, o order) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer, product, cents) VALUES (?, ?, ?, ?)`,
		o.ID, o.Customer, o.Product, o.Cents)
	if err != nil {
		return fmt.Errorf("insert order: %w", err)
	}
	return nil
}

// publish tells the broker of the order, in an event with an id of its own: the code that one finds in most services.
func (s *shop) publish(o order) error {
	m := message.NewMessage(core.NewID(), o.payload())
	m.Metadata.Set(watermill.KeyMetadata, o.ID)
	if err := s.publisher.Publish(s.topic, m); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// payload is the event's content.
func (o order) payload() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // three strings and a number
	}
	return b
}

func (s *shop) crashBetweenWrites() {
	if s.current.Fault == crash {
		die()
	}
}

func (s *shop) crashBeforeCommit() {
	if s.current.Fault == crash && !s.current.AfterCommit {
		die()
	}
}

func (s *shop) crashAfterCommit() {
	if s.current.Fault == crash && s.current.AfterCommit {
		die()
	}
}
