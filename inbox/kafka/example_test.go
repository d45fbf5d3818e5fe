package kafka_test

import (
	"context"
	"database/sql"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/inbox/kafka"
)

// A consumer that writes an invoice for each order, once.
func Example() {
	bill := func(ctx context.Context, dialect core.Dialect, db *sql.DB, broker core.Broker, brokers []string) error {
		box, err := inbox.New(dialect, inbox.Config{}) // any of our dialects, on the consumer's database
		if err != nil {
			return err
		}
		consumer, err := inbox.NewConsumer(box, db, "billing", inbox.ConsumerConfig{DeadLetters: broker, DeadLetterTopic: "orders.dead"})
		if err != nil {
			return err
		}
		loop, err := kafka.New(consumer, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
			_, err := tx.ExecContext(ctx, "INSERT INTO invoices (what) VALUES ($1)", string(m.Payload)) // everything in tx
			return err
		}, kafka.Config{Brokers: brokers, Group: "billing", Topics: []string{"orders"}})
		if err != nil {
			return err
		}
		go box.Run(ctx) // forgets what is too old to come again
		return loop.Run(ctx)
	}
	_ = bill // it needs servers: examples/mysql-rabbitmq is a program that is run
}
