package watermilltest

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/core/outboxtest"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// OrderPlaced is an application's event.
type OrderPlaced struct{ ID string }

var eventBusConfig = cqrs.EventBusConfig{
	Marshaler: cqrs.JSONMarshaler{GenerateName: cqrs.StructName},
	GeneratePublishTopic: func(params cqrs.GenerateEventPublishTopicParams) (string, error) {
		return params.EventName, nil
	},
	OnPublish: func(params cqrs.OnEventSendParams) error {
		if placed, ok := params.Event.(OrderPlaced); ok {
			params.Message.Metadata.Set(watermill.KeyMetadata, placed.ID)
		}
		return nil
	},
}

// shop places orders: a row and an event each.
type shop struct {
	dialect *sqlite.Dialect
	outbox  *core.Outbox
}

func newShop(t *testing.T) *shop {
	t.Helper()
	dialect, err := sqlite.Open(filepath.Join(t.TempDir(), "shop.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := dialect.DB().ExecContext(t.Context(), `CREATE TABLE orders (id TEXT PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return &shop{dialect, core.NewOutbox(dialect, core.OutboxConfig{})}
}

// place commits an order and its event, or neither where the last step fails.
func (s *shop) place(ctx context.Context, id string, lastStep error) error {
	return s.outbox.InTx(ctx, s.dialect.DB(), core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
		publisher := watermill.NewOutboxPublisher(s.outbox, tx, watermill.OutboxPublisherConfig{})
		bus, err := cqrs.NewEventBusWithConfig(publisher, eventBusConfig)
		if err != nil {
			return nil, err
		}
		if _, err := tx.ExecContext(ctx, `INSERT INTO orders (id) VALUES (?)`, id); err != nil {
			return nil, err
		}
		if err := bus.Publish(ctx, OrderPlaced{ID: id}); err != nil {
			return nil, err
		}
		return core.NoEvents, lastStep
	})
}

// expect compares the orders and the events that are committed with one order and its event.
func (s *shop) expect(t *testing.T, id string) {
	t.Helper()
	var orders string
	err := s.dialect.DB().QueryRowContext(t.Context(), `SELECT coalesce(group_concat(id), '') FROM orders`).Scan(&orders)
	if err != nil {
		t.Fatal(err)
	}
	if orders != id {
		t.Errorf("orders: got %q, want %q", orders, id)
	}
	events, err := outboxtest.Committed(t.Context(), s.dialect)
	if err != nil {
		t.Fatal(err)
	}
	if err := outboxtest.Compare(events, core.Message{
		Topic: "OrderPlaced", Key: id, Payload: []byte(`{"ID":"` + id + `"}`), Headers: map[string]string{"name": "OrderPlaced"},
	}); err != nil {
		t.Error(err)
	}
}

func newChannel(t *testing.T) *gochannel.GoChannel {
	t.Helper()
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	t.Cleanup(func() { channel.Close() })
	return channel
}

// run runs a router until the test ends.
func run(t *testing.T, router *message.Router) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- router.Run(context.Background()) }()
	t.Cleanup(func() {
		if err := errors.Join(router.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	<-router.Running()
}

func newRouter(t *testing.T) *message.Router {
	t.Helper()
	router, err := message.NewRouter(message.RouterConfig{}, wmill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	return router
}

// A router's handler that fails after it has published is called again, and its first event never was.
func TestAnEventBusInAHandlersTransaction(t *testing.T) {
	s, commands, router := newShop(t), newChannel(t), newRouter(t)
	declined := errors.New("declined")
	tries := 0
	router.AddConsumerHandler("place", "PlaceOrder", commands, func(m *message.Message) error {
		if tries++; tries == 1 {
			return s.place(m.Context(), string(m.Payload), declined)
		}
		return s.place(m.Context(), string(m.Payload), nil)
	})
	run(t, router)

	if err := commands.Publish("PlaceOrder", message.NewMessage("c-1", []byte("42"))); err != nil {
		t.Fatal(err) // it returns when the handler has succeeded
	}

	if tries != 2 {
		t.Errorf("the handler was called %d times, want twice", tries)
	}
	s.expect(t, "42")
}

// The whole way: an event bus, the outbox, a relay, and an event processor, which knows nothing of all that.
func TestAnEventBusReachesAnEventProcessor(t *testing.T) {
	s, events, router := newShop(t), newChannel(t), newRouter(t)
	processor, err := cqrs.NewEventProcessorWithConfig(router, cqrs.EventProcessorConfig{
		Marshaler: eventBusConfig.Marshaler,
		GenerateSubscribeTopic: func(params cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) {
			return params.EventName, nil
		},
		SubscriberConstructor: func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			return events, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	if err := processor.AddHandlers(cqrs.NewEventHandler("ship", func(_ context.Context, placed *OrderPlaced) error {
		got <- placed.ID
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	run(t, router)
	for _, id := range []string{"42", "43"} {
		if err := s.place(t.Context(), id, nil); err != nil {
			t.Fatal(err)
		}
	}

	relay, err := core.NewRelay(s.dialect, open(t, events), core.RelayConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if held, err := relay.RunOnce(t.Context()); err != nil || len(held) > 0 {
		t.Fatalf("RunOnce: got %v and %v", held, err)
	}

	ids := map[string]bool{<-got: true, <-got: true}
	if !ids["42"] || !ids["43"] || len(got) > 0 {
		t.Errorf("shipped: got %v and %d more, want 42 and 43", ids, len(got))
	}
}
