package kafka_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// longEnough is what a test waits, at most, for what a server does at once where the machine lets it.
const longEnough = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, address string) *kafka.Broker {
	t.Helper()
	b, err := kafka.Open(kafka.Config{Brokers: []string{address}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func TestConformance(t *testing.T) {
	testConformance(t, nil, func(t *testing.T, b *kafka.Broker) core.Broker { return b })
}

// In a term, as a relay uses it. The server's restart takes its time, and is enough once.
func TestConformanceInATerm(t *testing.T) {
	restart := func() error {
		servers.Control(t, "kill", "kafka")
		servers.Control(t, "up", "kafka")
		return nil
	}
	testConformance(t, restart, func(t *testing.T, b *kafka.Broker) core.Broker {
		term, err := b.ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
		if err != nil {
			t.Fatal(err)
		}
		return term
	})
}

func testConformance(t *testing.T, restart func() error, use func(*testing.T, *kafka.Broker) core.Broker) {
	const partitions = 3
	conformance.TestBroker(t, func(t *testing.T) conformance.BrokerFixture {
		address, topic, other := servers.Kafka(t), servers.KafkaTopic(t, partitions), servers.KafkaTopic(t, partitions)
		proxy := servers.Proxy(t, address, conformance.ProxyConfig{})
		f := conformance.BrokerFixture{
			Broker: use(t, openThrough(t, proxy)),
			Topic:  topic,
			Read: func(ctx context.Context, n int) ([]core.Message, error) {
				return read(ctx, address, topic, partitions, n)
			},
			OtherTopic: other,
			ReadOther: func(ctx context.Context, n int) ([]core.Message, error) {
				return read(ctx, address, other, partitions, n)
			},
			Poison: func(m core.Message) core.Message {
				m.Payload = make([]byte, 2*core.MaxPayloadBytes) // more than a topic takes that nobody has configured
				return m
			},
			Restart: restart,
		}.Through(proxy)
		f.Freeze = func() (thaw func(), err error) { // the server itself
			servers.Control(t, "pause", "kafka")
			return func() { servers.Control(t, "resume", "kafka") }, nil
		}
		return f
	})
}

// openThrough connects to proxy, whatever the cluster says that it is called.
func openThrough(t *testing.T, proxy *conformance.Proxy) *kafka.Broker {
	t.Helper()
	b, err := kafka.Open(kafka.Config{Brokers: []string{proxy.Addr()}, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, proxy.Addr())
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// read returns the first n records of a topic, each partition's in order.
func read(ctx context.Context, address, topic string, partitions, n int) ([]core.Message, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		m   kafkago.Message
		err error
	}
	results := make(chan result)
	for p := range partitions {
		reader := kafkago.NewReader(kafkago.ReaderConfig{
			Brokers: []string{address}, Topic: topic, Partition: p, MaxWait: 100 * time.Millisecond,
		})
		go func() {
			defer reader.Close()
			for {
				m, err := reader.ReadMessage(ctx)
				select {
				case results <- result{m, err}:
				case <-ctx.Done():
				}
				if err != nil {
					return
				}
			}
		}()
	}
	var msgs []core.Message
	for len(msgs) < n {
		var r result
		select {
		case r = <-results:
		case <-ctx.Done():
			r.err = ctx.Err()
		}
		if r.err != nil {
			return nil, fmt.Errorf("read record %d of %d: %w", len(msgs)+1, n, r.err)
		}
		msgs = append(msgs, fromRecord(r.m))
	}
	return msgs, nil
}

func fromRecord(m kafkago.Message) core.Message {
	out := core.Message{Topic: m.Topic, Key: string(m.Key), Payload: m.Value}
	for _, h := range m.Headers {
		if h.Key == kafka.IDHeader {
			out.ID = string(h.Value)
			continue
		}
		if out.Headers == nil {
			out.Headers = map[string]string{}
		}
		out.Headers[h.Key] = string(h.Value)
	}
	return out
}

// Rule 35. Partitions as the Java client's murmur2 gives them; the hashes are those of Kafka's own UtilsTest.testMurmur2.
func TestKeysGoToThePartitionsOfTheJavaClient(t *testing.T) {
	hashes := map[string]int32{"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536,
		"a-little-bit-longer-string": -1486304829, "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971, "abc": 479470107}
	const partitions = 7
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, partitions)
	broker := open(t, address)
	for key, hash := range hashes {
		if err := broker.Publish(t.Context(), []core.Message{{ID: key, Topic: topic, Key: key}}); err != nil {
			t.Fatal(err)
		}
		p := int(hash&0x7fffffff) % partitions
		reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{address}, Topic: topic, Partition: p, MaxWait: 100 * time.Millisecond})
		ctx, cancel := context.WithTimeout(t.Context(), longEnough)
		for {
			m, err := reader.ReadMessage(ctx)
			if err != nil {
				t.Errorf("key %q is not in partition %d: %v", key, p, err)
				break
			}
			if string(m.Key) == key {
				break
			}
		}
		cancel()
		reader.Close()
	}
}

func TestAnUnknownTopicHurtsNoOther(t *testing.T) {
	topic := servers.KafkaTopic(t, 1)
	err := open(t, servers.Kafka(t)).Publish(t.Context(), []core.Message{
		{ID: "a", Topic: "lockstep.there-is-no-such-topic", Key: "k"}, {ID: "b", Topic: topic, Key: "k"},
	})
	var batch *core.BatchError
	if !errors.As(err, &batch) {
		t.Fatalf("Publish: got %v, want a *BatchError", err)
	}
	if !errors.Is(batch.Results[0], kafkago.UnknownTopicOrPartition) || batch.Results[1] != nil {
		t.Errorf("results: got %v, want UnknownTopicOrPartition and nil", batch.Results)
	}
	expectClass(t, "the unknown topic", batch.Results[0], core.ErrUnavailable)
}

// Whichever of the bootstrap servers are away: kafka-go tries them in an order of its own.
func TestOneOfTheBootstrapServersIsEnough(t *testing.T) {
	t.Parallel()
	topic := servers.KafkaTopic(t, 1)
	for n := range 10 {
		b, err := kafka.Open(kafka.Config{Brokers: []string{"127.0.0.1:1", servers.Kafka(t), "127.0.0.1:2"}})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), []core.Message{{ID: fmt.Sprint(n), Topic: topic}}); err != nil {
			t.Errorf("cluster %d: %v", n, err)
		}
		b.Close()
	}
}

func TestNothingIsClaimedWithoutABroker(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := open(t, "127.0.0.1:1").Publish(ctx, []core.Message{{ID: "a", Topic: "t"}})
	expectClass(t, "without a broker", resultsOf(t, err, 1)[0], core.ErrUnavailable)
}
