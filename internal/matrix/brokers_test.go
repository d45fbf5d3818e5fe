package matrix

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"strconv"
	"testing"
	"time"

	wmill "github.com/ThreeDotsLabs/watermill"
	wmillkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// broker is a column of the matrix.
type broker struct {
	name string
	open func(t *testing.T) conformance.BrokerFixture
}

var brokers = []broker{
	{"Kafka", openKafka},
	{"RabbitMQ", openRabbitMQ},
	{"Watermill over Kafka", openWatermill},
}

const partitions = 3

// kafkaTopic is a topic of its own and a proxy before the server. Who connects to the proxy is told to stay with it.
func kafkaTopic(t *testing.T) (topic string, proxy *conformance.Proxy, f conformance.BrokerFixture) {
	t.Helper()
	address := servers.Kafka(t)
	topic = servers.KafkaTopic(t, partitions, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: fmt.Sprint(topicLimit)})
	var advertised, own []byte
	ready := make(chan struct{})
	proxy = servers.Proxy(t, address, conformance.ProxyConfig{Rewrite: func(piece []byte) {
		<-ready
		for from := 0; ; {
			at := bytes.Index(piece[from:], advertised)
			if at < 0 {
				return
			}
			from += at + copy(piece[from+at:], own)
		}
	}})
	advertised, own = onTheWire(t, address), onTheWire(t, proxy.Addr())
	if len(advertised) != len(own) {
		t.Fatalf("the server at %s cannot be made to look as if it were at %s", address, proxy.Addr())
	}
	close(ready)
	f = conformance.BrokerFixture{
		Topic:   topic,
		Restart: restart(t, "kafka"),
		Server:  "kafka",
		Poison: func(m core.Message) core.Message {
			m.Payload = make([]byte, 2*topicLimit)
			return m
		},
	}.Through(proxy)
	return topic, proxy, f
}

// onTheWire is an address as Kafka tells it: a string, and four bytes of port.
func onTheWire(t *testing.T, address string) []byte {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.AppendUint32([]byte(host), uint32(port))
}

// topicLimit is the topic's max.message.bytes.
const topicLimit = 100_000

// consume returns what a topic holds, partition by partition, without the proxy and without any of our code. After a
// restart Kafka names leaders that are not yet: a consumer asks again, as every one does.
func consume(ctx context.Context, address, topic string, decode func(kafkago.Message) core.Message) ([]core.Message, error) {
	var msgs []core.Message
	for p := range partitions {
		for {
			stored, err := consumePartition(ctx, address, topic, p)
			if err == nil {
				for _, m := range stored {
					msgs = append(msgs, decode(m))
				}
				break
			}
			if !errors.Is(err, kafkago.NotLeaderForPartition) && !errors.Is(err, kafkago.LeaderNotAvailable) {
				return nil, err
			}
			select {
			case <-ctx.Done():
				return nil, err
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
	return msgs, nil
}

func consumePartition(ctx context.Context, address, topic string, partition int) ([]kafkago.Message, error) {
	conn, err := kafkago.DialLeader(ctx, "tcp", address, topic, partition)
	if err != nil {
		return nil, err
	}
	end, err := conn.ReadLastOffset()
	conn.Close()
	if err != nil || end == 0 {
		return nil, err
	}
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{address}, Topic: topic, Partition: partition, MaxWait: 100 * time.Millisecond})
	defer reader.Close()
	var msgs []kafkago.Message
	for offset := int64(0); offset < end; {
		m, err := reader.ReadMessage(ctx)
		if err != nil {
			return nil, err
		}
		offset = m.Offset + 1
		msgs = append(msgs, m)
	}
	return msgs, nil
}

func openKafka(t *testing.T) conformance.BrokerFixture {
	t.Helper()
	topic, proxy, f := kafkaTopic(t)
	open := func() core.Broker {
		b, err := kafka.Open(kafka.Config{Brokers: []string{proxy.Addr()}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	f.Broker, f.Elsewhere = open(), open()
	f.Stored = func(ctx context.Context) ([]core.Message, error) {
		return consume(ctx, servers.Kafka(t), topic, func(m kafkago.Message) core.Message {
			out := core.Message{Topic: m.Topic, Key: string(m.Key), Payload: m.Value, Headers: map[string]string{}}
			for _, h := range m.Headers {
				out.Headers[h.Key] = string(h.Value)
			}
			out.ID = out.Headers[kafka.IDHeader]
			return out
		})
	}
	return f
}

// openWatermill sends over watermill-kafka, with the settings that broker/watermill tells users to make.
func openWatermill(t *testing.T) conformance.BrokerFixture {
	t.Helper()
	topic, proxy, f := kafkaTopic(t)
	open := func() core.Broker {
		publisher, err := wmillkafka.NewPublisher(wmkafka.PublisherConfig([]string{proxy.Addr()}), wmill.NopLogger{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { publisher.Close() })
		b, err := watermill.New(wmkafka.WithClasses(publisher))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	f.Broker, f.Elsewhere = open(), open()
	f.Stored = func(ctx context.Context) ([]core.Message, error) {
		return consume(ctx, servers.Kafka(t), topic, func(m kafkago.Message) core.Message {
			headers := map[string]string{}
			for _, h := range m.Headers {
				headers[h.Key] = string(h.Value)
			}
			out := core.Message{ID: headers[wmillkafka.UUIDHeaderKey], Topic: m.Topic, Key: headers[watermill.KeyMetadata], Payload: m.Value}
			out.Headers = maps.Clone(headers)
			return out
		})
	}
	return f
}
