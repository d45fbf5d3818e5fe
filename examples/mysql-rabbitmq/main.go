// Command mysql-rabbitmq is a bank and its fraud detection. The bank commits transactions and their events to MySQL; a
// relay carries the events to RabbitMQ; fraud detection adds up what each account spends, once for each event, however
// often it is delivered.
//
//	bank.go    the writing side
//	fraud.go   the consumer, with an inbox
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/inbox"
)

func main() {
	database := flag.String("database", "", "`DSN` of a MySQL or MariaDB database: user:password@tcp(host:port)/database")
	rabbit := flag.String("rabbitmq", "", "`URL` of RabbitMQ")
	exchange := flag.String("exchange", "bank", "exchange of the bank's events; the queue is named after it")
	flag.Parse()
	if err := run(context.Background(), *database, *rabbit, *exchange); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dsn, rabbit, exchange string) (err error) {
	connection, err := amqp091.Dial(rabbit)
	if err != nil {
		return err
	}
	defer connection.Close()
	deliveries, err := declare(connection, exchange, exchange+".fraud")
	if err != nil {
		return err
	}
	dialect, err := mysql.Open(dsn, mysql.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	if err := dialect.Migrate(ctx); err != nil {
		return err
	}
	db, err := mysql.OpenDB(dsn)
	if err != nil {
		return err
	}
	defer db.Close()

	// The carrying side. It can run in a process of its own, or as the program: lockstep relay.
	broker, err := amqp.Open(amqp.Config{URLs: []string{rabbit}})
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

	bank, err := openBank(ctx, db, core.NewOutbox(dialect, core.OutboxConfig{Waker: waker}), exchange)
	if err != nil {
		return err
	}
	spent, err := spend(ctx, bank)
	if err != nil {
		return err
	}
	// The inbox is in the consumer's database, which is this one here, and needs no outbox beside it.
	if err := dialect.MigrateInbox(ctx); err != nil {
		return err
	}
	box, err := inbox.New(dialect, inbox.Config{})
	if err != nil {
		return err
	}
	fraud, err := openFraudDetection(ctx, db, box)
	if err != nil {
		return err
	}
	return fraud.Work(ctx, deliveries, spent)
}

// spend is a morning at the bank. It returns how many events fraud detection will hear of.
func spend(ctx context.Context, bank *Bank) (int, error) {
	spent := 0
	for _, t := range []struct {
		account string
		cents   int
	}{{"ann", 30_00}, {"ben", 400_00}, {"ann", 900_00}, {"ben", 800_00}, {"ann", 20_00}} {
		err := bank.Spend(ctx, t.account, t.cents)
		if errors.Is(err, errNoFunds) {
			fmt.Printf("bank: %s cannot spend %d, so there is neither a transaction nor an event\n", t.account, t.cents/100)
			continue
		}
		if err != nil {
			return spent, err
		}
		fmt.Printf("bank: %s spends %d\n", t.account, t.cents/100)
		spent++
	}
	return spent, nil
}

// declare makes a durable exchange, and a quorum queue that gets all of it. Lockstep declares nothing.
func declare(connection *amqp091.Connection, exchange, queue string) (<-chan amqp091.Delivery, error) {
	channel, err := connection.Channel()
	if err != nil {
		return nil, err
	}
	if err := channel.ExchangeDeclare(exchange, amqp091.ExchangeTopic, true, false, false, false, nil); err != nil {
		return nil, err
	}
	quorum := amqp091.Table{amqp091.QueueTypeArg: amqp091.QueueTypeQuorum}
	if _, err := channel.QueueDeclare(queue, true, false, false, false, quorum); err != nil {
		return nil, err
	}
	if err := channel.QueueBind(queue, "#", exchange, false, nil); err != nil {
		return nil, err
	}
	if err := channel.Qos(1, 0, false); err != nil { // one at a time: the next event comes when this one is settled
		return nil, err
	}
	return channel.Consume(queue, "", false, false, false, false, nil)
}
