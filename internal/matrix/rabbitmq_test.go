package matrix

import (
	"context"
	"crypto/rand"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// openRabbitMQ opens a durable exchange with one durable queue, through a proxy.
func openRabbitMQ(t *testing.T) conformance.BrokerFixture {
	t.Helper()
	address := servers.RabbitMQ(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	name := declare(t, address)
	proxy := servers.Proxy(t, u.Host, conformance.ProxyConfig{})
	u.Host = proxy.Addr()
	open := func() core.Broker {
		broker, err := amqp.Open(amqp.Config{URLs: []string{u.String()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { broker.Close() })
		return broker
	}
	var taken []core.Message // a queue gives its messages away
	return conformance.BrokerFixture{
		Broker:    open(),
		Elsewhere: open(),
		Topic:     name,
		Restart:   restart(t, "rabbitmq"),
		Server:    "rabbitmq",
		Poison: func(m core.Message) core.Message { // RabbitMQ wants a list there, and headers are text
			m.Headers = maps.Clone(m.Headers)
			m.Headers["CC"] = "x"
			return m
		},
		Stored: func(context.Context) (_ []core.Message, err error) {
			taken, err = takeAll(address, name, taken)
			return taken, err
		},
	}.Through(proxy)
}

// declare makes an exchange and a queue behind it, both of one name.
func declare(t *testing.T, address string) (name string) {
	t.Helper()
	name = "lockstep_test_" + strings.ToLower(rand.Text())
	with := func(use func(*amqp091.Channel) error) {
		t.Helper()
		if err := onChannel(address, use); err != nil {
			t.Fatal(err)
		}
	}
	with(func(c *amqp091.Channel) error {
		return c.ExchangeDeclare(name, "topic", true, false, false, false, nil)
	})
	t.Cleanup(func() {
		with(func(c *amqp091.Channel) error { return c.ExchangeDelete(name, false, false) })
		with(func(c *amqp091.Channel) error { _, err := c.QueueDelete(name, false, false, false); return err })
	})
	with(func(c *amqp091.Channel) error {
		_, err := c.QueueDeclare(name, true, false, false, false, nil)
		return err
	})
	with(func(c *amqp091.Channel) error { return c.QueueBind(name, "#", name, false, nil) })
	return name
}

// onChannel runs use on a connection of its own.
func onChannel(address string, use func(*amqp091.Channel) error) error {
	conn, err := amqp091.DialConfig(address, amqp091.Config{Dial: amqp091.DefaultDial(10 * time.Second)})
	if err != nil {
		return err
	}
	defer conn.Close()
	channel, err := conn.Channel()
	if err != nil {
		return err
	}
	return use(channel)
}

// takeAll adds what the queue holds to msgs.
func takeAll(address, queue string, msgs []core.Message) ([]core.Message, error) {
	err := onChannel(address, func(c *amqp091.Channel) error {
		for {
			d, ok, err := c.Get(queue, true)
			if err != nil || !ok {
				return err
			}
			m := core.Message{ID: d.MessageId, Topic: queue, Payload: d.Body, Headers: map[string]string{}}
			for name, value := range d.Headers {
				if text, ok := value.(string); ok {
					m.Headers[name] = text
				}
			}
			m.Key = m.Headers[amqp.KeyHeader]
			msgs = append(msgs, m)
		}
	})
	return msgs, err
}
