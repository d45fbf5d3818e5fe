package crashtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"testing"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// newRabbitSite is a site with an exchange of RabbitMQ, and one quorum queue behind it.
func newRabbitSite(t *testing.T, on database) *site {
	t.Helper()
	address, name := servers.RabbitMQ(t), "lockstep_test_"+strings.ToLower(rand.Text())
	onRabbitMQ(t, address, func(c *amqp091.Channel) error {
		if err := c.ExchangeDeclare(name, "topic", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := c.QueueDeclare(name, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
			return err
		}
		return c.QueueBind(name, "#", name, false, nil)
	})
	t.Cleanup(func() {
		onRabbitMQ(t, address, func(c *amqp091.Channel) error {
			if _, err := c.QueueDelete(name, false, false, false); err != nil {
				return err
			}
			return c.ExchangeDelete(name, false, false)
		})
	})
	s := newSiteTo(t, on, name, relayPlan{Database: on, RabbitMQ: address})
	s.consume = func(context.Context) (*ledger, error) { return consumeRabbitMQ(t, address, name) }
	return s
}

func onRabbitMQ(t *testing.T, address string, do func(*amqp091.Channel) error) {
	t.Helper()
	conn, err := amqp091.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err == nil {
		err = do(channel)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// consumeRabbitMQ takes everything out of the queue, with a consumer that knows nothing of Lockstep. Nobody publishes any
// more, so that a message of its own is the last.
func consumeRabbitMQ(t *testing.T, address, queue string) (*ledger, error) {
	t.Helper()
	const end = "the end"
	l := &ledger{deliveries: map[string]int{}, first: map[int][]order{}}
	var failure error
	onRabbitMQ(t, address, func(c *amqp091.Channel) error {
		if err := c.PublishWithContext(t.Context(), "", queue, true, false, amqp091.Publishing{MessageId: end}); err != nil {
			return err
		}
		deliveries, err := c.ConsumeWithContext(t.Context(), queue, "", true, false, false, false, nil)
		if err != nil {
			return err
		}
		for d := range deliveries {
			if d.MessageId == end {
				return nil
			}
			if failure = l.record(d.MessageId, fmt.Sprint(d.Headers[amqp.KeyHeader]), d.Body); failure != nil {
				return nil
			}
		}
		return errors.New("the consumer has ended before the last message")
	})
	return l, failure
}
