package watermill_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// The unsafe settings of known publishers are refused with what to set instead.
func ExampleNew() {
	_, err := watermill.New(gochannel.NewGoChannel(gochannel.Config{}, wmill.NopLogger{}))
	fmt.Println(err)
	_, err = watermill.New(gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{}))
	fmt.Println(err)
	// Output:
	// watermill: publisher refused: gochannel: BlockPublishUntilSubscriberAck is not set, and without it Publish returns before anybody has the message: set Config.BlockPublishUntilSubscriberAck
	// <nil>
}

// placeOrder is code of a Watermill application: it knows a database and a publisher.
func placeOrder(ctx context.Context, tx *sql.Tx, publisher message.Publisher, id string) error {
	if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES (?)`, id); err != nil {
		return err
	}
	event := message.NewMessageWithContext(ctx, "placed-"+id, []byte(`{"id":"`+id+`"}`))
	event.Metadata.Set(watermill.KeyMetadata, id)
	return publisher.Publish("orders", event)
}

// An application that publishes with Watermill is given a publisher of its transaction.
func ExampleNewOutboxPublisher() {
	ctx := context.Background()
	dialect, remove := exampleShop() // a SQLite file with a table of orders in it
	defer remove()
	db, outbox := dialect.DB(), core.NewOutbox(dialect, core.OutboxConfig{})

	place := func(id string, result error) error {
		return outbox.InTx(ctx, db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
			publisher := watermill.NewOutboxPublisher(outbox, tx, watermill.OutboxPublisherConfig{})
			if err := placeOrder(ctx, tx, publisher, id); err != nil {
				return nil, err
			}
			return core.NoEvents, result // its event is in the outbox by now
		})
	}
	fmt.Println(place("41", errors.New("no money")))
	fmt.Println(place("42", nil))

	// A relay carries the event to whatever Watermill can publish to.
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	defer channel.Close()
	received, err := channel.Subscribe(ctx, "orders")
	if err != nil {
		log.Fatal(err)
	}
	broker, err := watermill.New(channel)
	if err != nil {
		log.Fatal(err)
	}
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan error)
	go func() {
		_, err := relay.RunOnce(ctx)
		done <- err
	}()
	m := <-received
	m.Ack()
	fmt.Println(m.UUID, m.Metadata.Get(watermill.KeyMetadata), string(m.Payload))
	fmt.Println(<-done)
	// Output:
	// no money
	// <nil>
	// placed-42 42 {"id":"42"}
	// <nil>
}

// exampleShop returns a database with an outbox and a table of orders in it, and what removes it.
func exampleShop() (dialect *sqlite.Dialect, remove func()) {
	dir, err := os.MkdirTemp("", "lockstep")
	if err != nil {
		log.Fatal(err)
	}
	dialect, err = sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{})
	if err == nil {
		err = dialect.Migrate(context.Background())
	}
	if err == nil {
		_, err = dialect.DB().Exec(`CREATE TABLE orders (id TEXT PRIMARY KEY)`)
	}
	if err != nil {
		log.Fatal(err)
	}
	return dialect, func() {
		dialect.Close()
		os.RemoveAll(dir)
	}
}
