// Quickstart commits an order and its event in one SQLite transaction, and lets a relay carry the event to a consumer
// in the same process. It needs no server: go run ./examples/quickstart
package main

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func main() {
	dir := must(os.MkdirTemp("", "lockstep-quickstart"))
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())

	// The database, with the outbox table in it, and the application's own table.
	dialect := must(sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{}))
	check(dialect.Migrate(ctx))
	must(dialect.DB().Exec(`CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)`))

	// The broker. Here it is a channel whose consumer has the event when Publish returns.
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	received := must(channel.Subscribe(ctx, "orders"))

	// The carrying side: a relay, in this process or in another one.
	broker := must(watermill.New(channel))
	relay := must(core.NewRelay(dialect, broker, core.RelayConfig{}))
	stopped := make(chan error)
	go func() { stopped <- relay.Run(ctx) }()

	// The writing side: the order and its event are committed together, or neither is.
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	check(outbox.InTx(ctx, dialect.DB(), core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, item) VALUES (42, 'a book')`)
		return []core.Message{{Topic: "orders", Key: "42", Payload: []byte(`{"item":"a book"}`)}}, err
	}))

	m := <-received
	fmt.Printf("received %s from the topic orders\n", m.Payload)
	m.Ack()
	stop()
	check(<-stopped)
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func must[T any](result T, err error) T {
	check(err)
	return result
}
