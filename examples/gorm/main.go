// Command gorm enqueues events in GORM's transactions, on PostgreSQL.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"

	gormpostgres "gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// Order is a model.
type Order struct {
	ID   string `gorm:"primaryKey"`
	Item string
}

// TableName keeps it apart from what other examples call orders.
func (Order) TableName() string { return "gorm_orders" }

func main() {
	database := flag.String("database", "", "`URL` of a PostgreSQL database")
	flag.Parse()
	if err := run(context.Background(), *database); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn string) error {
	dialect, err := postgres.Open(dsn, postgres.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	pool, err := postgres.OpenDB(dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	db, err := gorm.Open(gormpostgres.New(gormpostgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return err
	}
	if err := db.WithContext(ctx).AutoMigrate(&Order{}); err != nil {
		return err
	}

	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	shop := &Shop{db, outbox}
	for _, order := range []Order{{core.NewID(), "a book"}, {core.NewID(), ""}, {core.NewID(), "a pen"}} {
		switch err := shop.Place(ctx, order); {
		case errors.Is(err, errNoItem):
			fmt.Println("refused: an order of nothing")
		case err != nil:
			return err
		}
	}

	relay, err := core.NewRelay(dialect, printer{}, core.RelayConfig{Lanes: 1})
	if err != nil {
		return err
	}
	_, err = relay.RunOnce(ctx)
	return err
}

var errNoItem = errors.New("no item")

// Shop is the application.
type Shop struct {
	db     *gorm.DB
	outbox *core.Outbox
}

// Place commits an order and its event, or neither. GORM's transaction is what its Statement has for a connection.
func (s *Shop) Place(ctx context.Context, order Order) error {
	return s.db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		if err := tx.Create(&order).Error; err != nil {
			return err
		}
		event := core.Message{Topic: "orders", Key: order.ID, Payload: []byte(order.Item)}
		if err := s.outbox.Enqueue(ctx, tx.Statement.ConnPool, event); err != nil {
			return err
		}
		if order.Item == "" {
			return errNoItem // rolls back the order and its event
		}
		return nil
	})
}

// printer is a broker of five lines. broker/kafka, broker/amqp and broker/watermill are real ones.
type printer struct{}

// Publish implements core.Broker.
func (printer) Publish(_ context.Context, msgs []core.Message) error {
	for _, m := range msgs {
		fmt.Fprintf(os.Stdout, "delivered to %s: %s\n", m.Topic, m.Payload)
	}
	return nil
}
