// Command postgres-kafka is a shop and its warehouse. The shop commits orders and their events to PostgreSQL; a relay
// carries the events to Kafka; the warehouse reads them there and ships what was paid.
//
//	shop.go        the writing side: an order's rows and its event, in one transaction
//	warehouse.go   the consumer, whose effects do no harm when an event arrives twice
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strings"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

func main() {
	database := flag.String("database", "", "`URL` of a PostgreSQL database")
	brokers := flag.String("kafka", "", "Kafka's bootstrap servers, `host:port,host:port`")
	topic := flag.String("topic", "orders", "topic of the orders' events")
	flag.Parse()
	if err := run(context.Background(), *database, strings.Split(*brokers, ","), *topic); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn string, brokers []string, topic string) (err error) {
	if err := createTopic(ctx, brokers, topic); err != nil {
		return err
	}
	dialect, err := postgres.Open(dsn, postgres.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	db, err := postgres.OpenDB(dsn)
	if err != nil {
		return err
	}
	defer db.Close()

	// The carrying side. It can run in a process of its own, or as the program: lockstep relay.
	broker, err := kafka.Open(kafka.Config{Brokers: brokers})
	if err != nil {
		return err
	}
	defer broker.Close()
	waker := core.NewWaker()
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{Waker: waker})
	if err != nil {
		return err
	}
	stopped := make(chan error, 1)
	relaying, stop := context.WithCancel(ctx)
	go func() { stopped <- relay.Run(relaying) }()
	defer func() {
		stop()
		err = errors.Join(err, <-stopped)
	}()

	shop, err := openShop(ctx, db, core.NewOutbox(dialect, core.OutboxConfig{Waker: waker}), topic)
	if err != nil {
		return err
	}
	orders, err := trade(ctx, shop)
	if err != nil {
		return err
	}
	warehouse, err := openWarehouse(ctx, db, brokers, topic)
	if err != nil {
		return err
	}
	defer warehouse.Close()
	return warehouse.Work(ctx, orders)
}

// trade is a morning in the shop. It returns the ids of the orders that the warehouse will hear of.
func trade(ctx context.Context, shop *Shop) ([]string, error) {
	book := Order{ID: core.NewID(), Customer: "ann", Item: "book"}
	last := Order{ID: core.NewID(), Customer: "ben", Item: "book"} // there is only one
	pen := Order{ID: core.NewID(), Customer: "cid", Item: "pen"}
	if err := shop.Place(ctx, book); err != nil {
		return nil, err
	}
	fmt.Printf("shop: %s ordered a %s\n", book.Customer, book.Item)
	if err := shop.Place(ctx, last); !errors.Is(err, errSoldOut) {
		return nil, fmt.Errorf("want the second book to be refused: %w", err)
	}
	fmt.Printf("shop: %s got no %s, so there is neither an order nor an event\n", last.Customer, last.Item)
	if err := shop.Place(ctx, pen); err != nil {
		return nil, err
	}
	fmt.Printf("shop: %s ordered a %s\n", pen.Customer, pen.Item)
	if err := shop.Change(ctx, book.ID, paid); err != nil {
		return nil, err
	}
	fmt.Printf("shop: %s paid\n", book.Customer)
	if err := shop.Change(ctx, pen.ID, cancelled); err != nil {
		return nil, err
	}
	fmt.Printf("shop: %s cancelled\n", pen.Customer)
	return []string{book.ID, pen.ID}, nil
}

// createTopic makes the topic with three partitions, unless it is there. Lockstep never creates topics.
func createTopic(ctx context.Context, brokers []string, topic string) error {
	client := kafkago.Client{Addr: kafkago.TCP(brokers...)}
	answer, err := client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{
		Topics: []kafkago.TopicConfig{{Topic: topic, NumPartitions: 3, ReplicationFactor: 1}},
	})
	if err != nil {
		return err
	}
	if err := answer.Errors[topic]; err != nil && !errors.Is(err, kafkago.TopicAlreadyExists) {
		return err
	}
	return nil
}
