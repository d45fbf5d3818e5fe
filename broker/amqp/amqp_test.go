package amqp_test

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// longEnough is what a test waits, at most, for what a server does at once where the machine lets it.
const longEnough = time.Minute

// open gives nodes longEnough to take a connection, where the URLs do not say otherwise.
func open(t *testing.T, config amqp.Config) *amqp.Broker {
	t.Helper()
	config.URLs = slices.Clone(config.URLs)
	for i, text := range config.URLs {
		u, err := url.Parse(text)
		must(t, err)
		if query := u.Query(); !query.Has("connection_timeout") {
			query.Set("connection_timeout", fmt.Sprint(longEnough.Milliseconds()))
			u.RawQuery = query.Encode()
			config.URLs[i] = u.String()
		}
	}
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
				f := fixture(t, kind, func(b *amqp.Broker) core.Broker { return b })
				f.Restart = func() error { return restart(t, kind) }
				return f
			})
		})
	}
	t.Run("pipelined", func(t *testing.T) { // a restart takes its time, and the queues are those of above
		conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
			return fixture(t, "classic", func(b *amqp.Broker) core.Broker { return b.Pipelined() })
		})
	})
}

// restart kills the server. A quorum queue that is killed within a second of its declaration can come back empty, with all that
// it had confirmed: until then the server has not written down that it has the queue. That is about young queues and not about
// messages, so the server is made to write it down first.
func restart(t *testing.T, kind string) error {
	if kind == "quorum" {
		servers.RabbitMQControl(t, "eval", "[ok = dets:sync(Table) || Table <- dets:all()], ok.")
	}
	servers.Control(t, "kill", "rabbitmq")
	servers.Control(t, "up", "rabbitmq")
	return nil
}

// fixture has a proxy before the server, for the broker alone.
func fixture(t *testing.T, kind string, as func(*amqp.Broker) core.Broker) conformance.BrokerFixture {
	address := servers.RabbitMQ(t)
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	proxy := servers.Proxy(t, to.Host, conformance.ProxyConfig{})
	to.Host = proxy.Addr()
	topic := newTopology(t, address, queue{kind: kind}).exchange
	other := newTopology(t, address, queue{kind: kind}).exchange
	f := conformance.BrokerFixture{
		Broker:     as(open(t, amqp.Config{URLs: []string{to.String()}})),
		Topic:      topic,
		Read:       reader(t, address, topic),
		OtherTopic: other,
		ReadOther:  reader(t, address, other),
		Poison: func(m core.Message) core.Message { // RabbitMQ wants a list there, and headers are text
			m.Headers = maps.Clone(m.Headers)
			m.Headers["CC"] = "x"
			return m
		},
	}.Through(proxy)
	f.Freeze = func() (thaw func(), err error) { // the server itself
		servers.Control(t, "pause", "rabbitmq")
		return func() { servers.Control(t, "resume", "rabbitmq") }, nil
	}
	return f
}

// reader consumes a queue from the first call on: what is on its way to a consumer when the server is killed is nobody's any more.
func reader(t *testing.T, address, queue string) func(ctx context.Context, n int) ([]core.Message, error) {
	open := sync.OnceValue(func() *consumer { return consume(t, address, queue) })
	return func(ctx context.Context, n int) ([]core.Message, error) { return open().first(ctx, n) }
}
