// Command watermill is an application that publishes with Watermill's event bus, and gets Lockstep under it: the bus writes
// to the outbox in the transaction of the order, and a relay delivers through a Watermill publisher to Watermill's event
// processor. It needs no server: go run .
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// OrderPlaced is an event of the application.
type OrderPlaced struct {
	ID   string
	Item string
}

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "lockstep-watermill-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	dialect, err := sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	if _, err := dialect.DB().ExecContext(ctx, `CREATE TABLE orders (id TEXT PRIMARY KEY, item TEXT)`); err != nil {
		return err
	}

	// Watermill's side: a publisher, which can be that of watermill-kafka or watermill-amqp, and the processor of events.
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	handled := make(chan OrderPlaced, 1)
	router, err := newRouter(channel, func(_ context.Context, event *OrderPlaced) error {
		handled <- *event
		return nil
	})
	if err != nil {
		return err
	}
	broker, err := watermill.New(channel) // refuses a publisher whose settings lose messages
	if err != nil {
		return err
	}
	waker := core.NewWaker()
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{Waker: waker})
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	running, stop := context.WithCancel(ctx)
	defer stop()
	go func() { ended <- router.Run(running) }()
	<-router.Running()
	go func() { ended <- relay.Run(running) }()

	shop := &Shop{dialect.DB(), core.NewOutbox(dialect, core.OutboxConfig{Waker: waker})}
	err = shop.Place(ctx, "41", "a book", errors.New("the card was refused"))
	fmt.Printf("order 41: %v\n", err)
	if err := shop.Place(ctx, "42", "a pen", nil); err != nil {
		return err
	}
	fmt.Println("order 42: placed")
	event := <-handled
	fmt.Printf("handled: order %s, %s\n", event.ID, event.Item)
	stop()
	return errors.Join(<-ended, <-ended)
}

// Shop is the application.
type Shop struct {
	db     *sql.DB
	outbox *core.Outbox
}

// Place commits an order and its event, or neither where payment is an error.
func (s *Shop) Place(ctx context.Context, id, item string, payment error) error {
	return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		bus, err := cqrs.NewEventBusWithConfig(watermill.NewOutboxPublisher(s.outbox, tx, watermill.OutboxPublisherConfig{}), busConfig)
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO orders VALUES (?, ?)`, id, item); err != nil {
			return nil, err
		}
		if err := bus.Publish(ctx, OrderPlaced{ID: id, Item: item}); err != nil {
			return nil, err
		}
		return core.NoEvents, payment // what the bus published is in the outbox, in tx
	})
}

var busConfig = cqrs.EventBusConfig{
	Marshaler: cqrs.JSONMarshaler{GenerateName: cqrs.StructName},
	GeneratePublishTopic: func(params cqrs.GenerateEventPublishTopicParams) (string, error) {
		return params.EventName, nil
	},
	OnPublish: func(params cqrs.OnEventSendParams) error {
		if placed, ok := params.Event.(OrderPlaced); ok { // the events of one order arrive in order
			params.Message.Metadata.Set(watermill.KeyMetadata, placed.ID)
		}
		return nil
	},
}

func newRouter(subscriber message.Subscriber, handle func(context.Context, *OrderPlaced) error) (*message.Router, error) {
	router, err := message.NewRouter(message.RouterConfig{}, wmill.NopLogger{})
	if err != nil {
		return nil, err
	}
	processor, err := cqrs.NewEventProcessorWithConfig(router, cqrs.EventProcessorConfig{
		Marshaler: busConfig.Marshaler,
		GenerateSubscribeTopic: func(params cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) {
			return params.EventName, nil
		},
		SubscriberConstructor: func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			return subscriber, nil
		},
	})
	if err != nil {
		return nil, err
	}
	return router, processor.AddHandlers(cqrs.NewEventHandler("OrderPlaced", handle))
}
