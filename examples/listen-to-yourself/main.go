// Listen-to-yourself emits first: to take an order, the service writes nothing but the event. It changes its own state when
// it consumes that event, like everybody else, and once, because an inbox recognises what was delivered before.
//
// What that buys: the state's changes are in the order of the topic, for this service and for all others, and the state can
// be built anew by reading the topic from its beginning under a new consumer's name. What it costs: who has just ordered does
// not see the order yet.
//
// It needs no server: go run ./examples/listen-to-yourself
package main

import (
	"context"
	"database/sql"
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
	"github.com/lockstep-go/lockstep/inbox"
	inboxwatermill "github.com/lockstep-go/lockstep/inbox/watermill"
)

func main() {
	dir := must(os.MkdirTemp("", "lockstep-listen"))
	defer os.RemoveAll(dir)
	ctx, stop := context.WithCancel(context.Background())

	// The service's one database, with its outbox, its inbox and its state.
	dialect := must(sqlite.Open(filepath.Join(dir, "shop.db"), sqlite.Config{}))
	check(dialect.Migrate(ctx))
	check(dialect.MigrateInbox(ctx))
	must(dialect.DB().Exec(`CREATE TABLE stock (item TEXT PRIMARY KEY, n INTEGER NOT NULL); INSERT INTO stock VALUES ('book', 10);
CREATE TABLE dead_letters (id TEXT PRIMARY KEY, payload BLOB NOT NULL, cause TEXT NOT NULL)`))

	// The broker, and the relay to it.
	channel := gochannel.NewGoChannel(gochannel.Config{BlockPublishUntilSubscriberAck: true}, wmill.NopLogger{})
	twice := deliveringTwice{must(watermill.New(channel))}
	waker := core.NewWaker()
	relay := must(core.NewRelay(dialect, twice, core.RelayConfig{Waker: waker}))

	// The consuming side: the event's effect on the service's own state.
	box := must(inbox.New(dialect, inbox.Config{}))
	consumer := must(inbox.NewConsumer(box, dialect.DB(), "stock", inbox.ConsumerConfig{
		DeadLetters: deadLetters{dialect.DB()}, DeadLetterTopic: "dead_letters",
	}))
	router := must(message.NewRouter(message.RouterConfig{}, wmill.NopLogger{}))
	router.AddMiddleware(counting, inboxwatermill.Middleware(consumer))
	router.AddConsumerHandler("stock", "orders", channel, func(m *message.Message) error {
		result, err := inboxwatermill.Tx(m.Context()).Exec(`UPDATE stock SET n = n - 1 WHERE item = ?`, string(m.Payload))
		if err != nil {
			return err
		}
		changed, err := result.RowsAffected()
		if err == nil && changed == 0 {
			err = fmt.Errorf("we sell no %s: %w", m.Payload, core.ErrPermanent) // another attempt would not help
		}
		return err
	})
	stopped := make(chan error)
	go func() { stopped <- router.Run(ctx) }()
	<-router.Running()
	go func() { stopped <- relay.Run(ctx) }()

	// The writing side: the event, and nothing else.
	outbox := core.NewOutbox(dialect, core.OutboxConfig{Waker: waker})
	for _, item := range []string{"book", "book", "unicorn", "book"} {
		check(outbox.InTx(ctx, dialect.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
			return []core.Message{{Topic: "orders", Key: item, Payload: []byte(item)}}, nil
		}))
	}

	for range 8 {
		<-delivered
	}
	stop()
	check(<-stopped)
	check(<-stopped)
	left := 0
	check(dialect.DB().QueryRow(`SELECT n FROM stock WHERE item = 'book'`).Scan(&left))
	fmt.Printf("4 orders, 8 deliveries, %d books left of 10\n", left)
	item, cause := "", ""
	check(dialect.DB().QueryRow(`SELECT payload, cause FROM dead_letters`).Scan(&item, &cause))
	fmt.Printf("a dead letter: %s (%s)\n", item, cause)
	check(dialect.Close())
}

// deadLetters keeps in a table what failed for good, for somebody to look at. A topic would do, with a broker that keeps it: a
// GoChannel forgets what nobody subscribes to. It may be given a message again.
type deadLetters struct{ db *sql.DB }

func (d deadLetters) Publish(ctx context.Context, msgs []core.Message) error {
	for _, m := range msgs {
		_, err := d.db.ExecContext(ctx, `INSERT INTO dead_letters (id, payload, cause) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
			m.ID, m.Payload, m.Headers[inbox.CauseHeader])
		if err != nil {
			return err
		}
	}
	return nil
}

// deliveringTwice is what a relay looks like that was killed between the broker's answer and its own delete, each time.
type deliveringTwice struct{ core.Broker }

func (d deliveringTwice) Publish(ctx context.Context, msgs []core.Message) error {
	if err := d.Broker.Publish(ctx, msgs); err != nil {
		return err
	}
	return d.Broker.Publish(ctx, msgs)
}

var delivered = make(chan struct{}, 100)

// counting tells of each delivery that was settled.
func counting(handle message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		produced, err := handle(m)
		if err == nil {
			delivered <- struct{}{}
		}
		return produced, err
	}
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
