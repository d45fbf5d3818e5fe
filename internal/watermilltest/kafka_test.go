package watermilltest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/leaks"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks.OfSarama()...)
}

func newKafka(t *testing.T, config kafka.PublisherConfig) *kafka.Publisher {
	t.Helper()
	publisher, err := kafka.NewPublisher(config, wmill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { publisher.Close() })
	return publisher
}

func open(t *testing.T, publisher message.Publisher) *watermill.Broker {
	t.Helper()
	broker, err := watermill.New(publisher)
	if err != nil {
		t.Fatal(err)
	}
	return broker
}

// opaque hides a publisher from the eyes of watermill.New.
type opaque func(topic string, msgs ...*message.Message) error

func (o opaque) Publish(topic string, msgs ...*message.Message) error { return o(topic, msgs...) }

func (opaque) Close() error { return nil }

// mutantVariable names the unsafe configuration with which TestConformance runs, and has to fail.
const mutantVariable = "LOCKSTEP_TEST_WATERMILL_MUTANT"

func TestConformance(t *testing.T) {
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		const partitions = 4
		address, topic, other := servers.Kafka(t), servers.KafkaTopic(t, partitions), servers.KafkaTopic(t, partitions)
		proxy := servers.Proxy(t, address, conformance.ProxyConfig{})
		config := wmkafka.PublisherConfig([]string{address})
		config.OverwriteSaramaConfig.Net.Proxy.Enable, config.OverwriteSaramaConfig.Net.Proxy.Dialer = true, through{proxy}
		if os.Getenv(mutantVariable) != "" {
			mutants[os.Getenv(mutantVariable)].spoil(&config)
		}
		publisher := wmkafka.WithClasses(newKafka(t, config))
		if os.Getenv(mutantVariable) != "" {
			publisher = opaque(publisher.Publish)
		}
		f := conformance.BrokerFixture{
			Broker: open(t, publisher),
			Topic:  topic,
			Read:   reader(t, address, topic),

			OtherTopic: other,
			ReadOther:  reader(t, address, other),
			Poison: func(m core.Message) core.Message {
				m.Payload = make([]byte, 2*core.MaxPayloadBytes) // more than a topic takes that nobody has configured
				return m
			},
		}.Through(proxy)
		f.Freeze = func() (thaw func(), err error) { // the server itself
			servers.Control(t, "pause", "kafka")
			return func() { servers.Control(t, "resume", "kafka") }, nil
		}
		return f
	})
}

// through connects to a proxy, whatever the cluster says that it is called.
type through struct{ proxy *conformance.Proxy }

func (d through) Dial(network, _ string) (net.Conn, error) {
	return net.DialTimeout(network, d.proxy.Addr(), 10*time.Second)
}

// reader reads a topic with Watermill's own subscriber.
func reader(t *testing.T, address, topic string) func(ctx context.Context, n int) ([]core.Message, error) {
	var stored <-chan *message.Message
	var msgs []core.Message
	return func(ctx context.Context, n int) ([]core.Message, error) {
		if stored == nil {
			stored = subscribe(t, address, topic)
		}
		for len(msgs) < n {
			select {
			case m := <-stored:
				msgs = append(msgs, fromWatermill(topic, m))
				m.Ack()
			case <-ctx.Done():
				return nil, fmt.Errorf("read message %d of %d: %w", len(msgs)+1, n, ctx.Err())
			}
		}
		return msgs[:n], nil
	}
}

func subscribe(t *testing.T, address, topic string) <-chan *message.Message {
	t.Helper()
	config := kafka.DefaultSaramaSubscriberConfig()
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	subscriber, err := kafka.NewSubscriber(kafka.SubscriberConfig{
		Brokers: []string{address}, Unmarshaler: kafka.DefaultMarshaler{}, OverwriteSaramaConfig: config,
	}, wmill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { subscriber.Close() })
	stored, err := subscriber.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func fromWatermill(topic string, m *message.Message) core.Message {
	headers := maps.Clone(m.Metadata)
	maps.DeleteFunc(headers, func(name, _ string) bool {
		// What watermill-kafka tells of the record.
		return strings.HasPrefix(name, "_watermill_") || name == watermill.KeyMetadata || name == watermill.EnqueuedAtMetadata
	})
	return core.Message{ID: m.UUID, Topic: topic, Key: m.Metadata.Get(watermill.KeyMetadata), Headers: headers, Payload: m.Payload}
}

// mutants are settings that New refuses, the check that shows why, and what it says then.
var mutants = map[string]struct {
	check, says string
	spoil       func(config *kafka.PublisherConfig)
}{
	"DefaultMarshaler": {"key-order", "stands where message", func(config *kafka.PublisherConfig) {
		config.Marshaler = kafka.DefaultMarshaler{}
	}},
	"RoundRobin": {"key-order", "stands where message", func(config *kafka.PublisherConfig) {
		config.OverwriteSaramaConfig.Producer.Partitioner = sarama.NewRoundRobinPartitioner
	}},
	"NoResponse": {"silent-broker", "took in nothing", func(config *kafka.PublisherConfig) {
		config.OverwriteSaramaConfig.Producer.RequiredAcks = sarama.NoResponse
	}},
}

// What New refuses is what conformance.TestBroker would find on the real server, had it been accepted.
func TestTheSuiteCatchesWhatIsRefused(t *testing.T) {
	servers.Kafka(t)
	for name, mutant := range mutants {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestConformance$/^"+mutant.check+"$", "-test.v")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), mutant.says) {
				t.Errorf("%s with %s: got %v, want it to fail and to say %q\n%s", mutant.check, name, err, mutant.says, out)
			}
		})
	}
}
