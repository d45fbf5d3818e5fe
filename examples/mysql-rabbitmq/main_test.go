package main

import (
	"crypto/rand"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// In a full dose several times on the same database and queue, as somebody does who tries it, changes something, and tries
// again.
func TestItPrintsWhatItsREADMESays(t *testing.T) {
	database, rabbit := servers.MySQLDatabase(t), servers.RabbitMQ(t)
	exchange := "lockstep_test_" + strings.ToLower(rand.Text())
	t.Cleanup(func() { remove(t, rabbit, exchange, exchange+".fraud") })
	for range dose.Of(t, 1, 3) {
		docs.Prints(t, "-database", database, "-rabbitmq", rabbit, "-exchange", exchange)
	}
}

func remove(t *testing.T, rabbit, exchange, queue string) {
	t.Helper()
	connection, err := amqp091.Dial(rabbit)
	if err != nil {
		t.Error(err)
		return
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		t.Error(err)
		return
	}
	left, err := channel.QueueDelete(queue, false, false, false)
	if err != nil || left != 0 {
		t.Errorf("the queue held %d messages at the end, want none; %v", left, err)
	}
	if err := channel.ExchangeDelete(exchange, false, false); err != nil {
		t.Error(err)
	}
}
