package amqp_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
)

// queue says what the queue of a topology is like.
type queue struct {
	kind       string
	arguments  amqp091.Table
	bindingKey string // "#" where it is empty
}

// topology is a topic exchange with one queue of the same name, a test's own, that ends with it.
type topology struct {
	exchange string
	channel  *amqp091.Channel
}

func newTopology(t *testing.T, url string, q queue) *topology {
	t.Helper()
	to := &topology{"lockstep_test_" + strings.ToLower(rand.Text()), dial(t, url)}
	must(t, to.channel.ExchangeDeclare(to.exchange, "topic", true, false, false, false, nil))
	t.Cleanup(func() {
		channel := dial(t, url) // the test may have broken the other one
		must(t, channel.ExchangeDelete(to.exchange, false, false))
		_, err := channel.QueueDelete(to.exchange, false, false, false)
		must(t, err)
	})
	arguments := amqp091.Table{"x-queue-type": q.kind}
	maps.Copy(arguments, q.arguments)
	_, err := to.channel.QueueDeclare(to.exchange, true, false, false, false, arguments)
	must(t, err)
	if q.bindingKey == "" {
		q.bindingKey = "#"
	}
	must(t, to.channel.QueueBind(to.exchange, q.bindingKey, to.exchange, false, nil))
	return to
}

// dial returns a channel on a connection that ends with the test.
func dial(t *testing.T, url string) *amqp091.Channel {
	t.Helper()
	conn, err := amqp091.DialConfig(url, amqp091.Config{Dial: amqp091.DefaultDial(longEnough)})
	must(t, err)
	t.Cleanup(func() { conn.CloseDeadline(time.Now().Add(5 * time.Second)) }) //nolint:errcheck // the test may have killed the server
	channel, err := conn.Channel()
	must(t, err)
	return channel
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// consumer is a stock consumer of a queue, which keeps what it is given.
type consumer struct {
	deliveries <-chan amqp091.Delivery
	taken      []amqp091.Delivery
}

func consume(t *testing.T, url, queue string) *consumer {
	t.Helper()
	deliveries, err := dial(t, url).ConsumeWithContext(context.Background(), queue, "", true, false, false, false, nil)
	must(t, err)
	return &consumer{deliveries: deliveries}
}

// first returns the first n messages of the queue.
func (c *consumer) first(ctx context.Context, n int) ([]core.Message, error) {
	if err := c.take(ctx, n); err != nil {
		return nil, err
	}
	var msgs []core.Message
	for _, d := range c.taken[:n] {
		msgs = append(msgs, fromDelivery(d))
	}
	return msgs, nil
}

func (c *consumer) take(ctx context.Context, n int) error {
	for len(c.taken) < n {
		select {
		case d, ok := <-c.deliveries:
			if !ok {
				return fmt.Errorf("the consumer has ended after %d of %d messages", len(c.taken), n)
			}
			c.taken = append(c.taken, d)
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages came: %w", len(c.taken), n, ctx.Err())
		}
	}
	return nil
}

func fromDelivery(d amqp091.Delivery) core.Message {
	m := core.Message{ID: d.MessageId, Topic: d.Exchange, Payload: d.Body}
	if d.ContentType != "" {
		m.Headers = map[string]string{amqp.ContentTypeHeader: d.ContentType}
	}
	for name, value := range d.Headers {
		switch name {
		case amqp.KeyHeader:
			m.Key = value.(string)
		case amqp.EnqueuedAtHeader:
			m.EnqueuedAt, _ = time.Parse(time.RFC3339Nano, value.(string))
		default:
			if m.Headers == nil {
				m.Headers = map[string]string{}
			}
			m.Headers[name] = value.(string)
		}
	}
	return m
}
