package amqp_test

import (
	"context"
	"maps"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, config amqp.Config) *amqp.Broker {
	t.Helper()
	b, err := amqp.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// kinds are the queues that keep what they confirmed.
var kinds = []string{"classic", "quorum"}

func TestConformance(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
				return fixture(t, kind, func(b *amqp.Broker) core.Broker { return b })
			})
		})
	}
	t.Run("pipelined", func(t *testing.T) {
		conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
			return fixture(t, "classic", func(b *amqp.Broker) core.Broker { return b.Pipelined() })
		})
	})
}

func fixture(t *testing.T, kind string, as func(*amqp.Broker) core.Broker) conformance.BrokerFixture {
	url := servers.RabbitMQ(t)
	topic := newTopology(t, url, queue{kind: kind}).exchange
	consumer := consume(t, url, topic)
	other := newTopology(t, url, queue{kind: kind}).exchange
	otherConsumer := consume(t, url, other)
	return conformance.BrokerFixture{
		Broker: as(open(t, amqp.Config{URLs: []string{url}})),
		Topic:  topic,
		Read: func(ctx context.Context, n int) ([]core.Message, error) {
			return consumer.first(ctx, n)
		},
		OtherTopic: other,
		ReadOther: func(ctx context.Context, n int) ([]core.Message, error) {
			return otherConsumer.first(ctx, n)
		},
		Poison: func(m core.Message) core.Message { // RabbitMQ wants a list there, and headers are text
			m.Headers = maps.Clone(m.Headers)
			m.Headers["CC"] = "x"
			return m
		},
		Freeze: func() (thaw func(), err error) {
			servers.Control(t, "pause", "rabbitmq")
			return func() { servers.Control(t, "resume", "rabbitmq") }, nil
		},
	}
}
