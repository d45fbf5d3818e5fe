package all

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"time"

	wmkafka "github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

const (
	scratchPartitions = 3
	// scratchLimit is the topic's max.message.bytes: room for the largest payload, and not for many headers beside it.
	scratchLimit = core.MaxPayloadBytes + 4<<10
)

// ScratchTopic implements [config.ScratchBroker]: a topic, written to as the configured ones are, but for CloudEvents.
func (b kafkaBroker) ScratchTopic(ctx context.Context, name string, through config.Through) (*config.ScratchTopic, error) {
	c := b.config
	c.CloudEventsSource = ""
	if through != nil {
		c.Dial = dialThrough(through)
	}
	own, err := kafka.Open(c)
	if err != nil {
		return nil, err
	}
	elsewhere, err := kafka.Open(c)
	if err != nil {
		return nil, errors.Join(err, own.Close())
	}
	s, err := scratchKafka(ctx, newKafkaReader(b.config, name, fromKafka), own, elsewhere)
	if err != nil {
		return nil, err
	}
	s.Poison = func(m core.Message) core.Message {
		random := make([]byte, core.MaxPayloadBytes) // no compression makes it smaller
		_, _ = rand.Read(random)                     // it does not fail
		m.Payload, m.Headers = random, maps.Clone(m.Headers)
		setHeader(&m, "poison", base64.StdEncoding.EncodeToString(random[:core.MaxHeadersBytes/2]))
		return m
	}
	return s, nil
}

// ScratchTopic implements [config.ScratchBroker]. Nothing that core takes is more than sarama takes, and a refusal by the
// server is not one for good: see package wmkafka.
func (b watermillKafka) ScratchTopic(ctx context.Context, name string, through config.Through) (*config.ScratchTopic, error) {
	var dial saramaDialer
	if through != nil {
		own := dialThrough(through)
		dial = func(network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			return own(ctx, network, address)
		}
	}
	open := func() closingBroker {
		return newLate(func() (core.Broker, io.Closer, error) { return makeWatermillKafka(b.brokers, b.log, dial) })
	}
	return scratchKafka(ctx, newKafkaReader(kafka.Config{Brokers: b.brokers}, name, fromWatermill), open(), open())
}

func dialThrough(through config.Through) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		address, err := through(address)
		if err != nil {
			return nil, err
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
}

// closingBroker is a broker with connections to close.
type closingBroker interface {
	core.Broker
	io.Closer
}

func scratchKafka(ctx context.Context, r *kafkaReader, broker, elsewhere closingBroker) (*config.ScratchTopic, error) {
	closed := false
	readers := []*kafkaReader{r}
	s := &config.ScratchTopic{
		Broker: broker, Elsewhere: elsewhere, Topic: r.topic, Stored: r.stored, Where: "the topic " + r.topic,
		Remove: func(ctx context.Context) error {
			var errs []error
			if !closed {
				errs, closed = append(errs, broker.Close(), elsewhere.Close()), true
			}
			for _, r := range readers {
				errs = append(errs, r.remove(ctx))
			}
			return errors.Join(errs...)
		},
	}
	s.Other = func(ctx context.Context) (string, func(ctx context.Context) ([]core.Message, error), error) {
		other := &kafkaReader{topic: r.topic + otherTopic, client: r.client, transport: r.transport, decode: r.decode}
		readers = append(readers, other)
		s.Where += " and the topic " + other.topic
		if err := other.create(ctx); err != nil {
			return "", nil, fmt.Errorf("make a second throw-away topic: %w", err)
		}
		return other.topic, other.stored, nil
	}
	if err := r.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("make a throw-away topic: %w", err), s.Remove(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// kafkaReader makes, reads and removes a topic, without any of the adapter's code.
type kafkaReader struct {
	topic     string
	client    *kafkago.Client
	transport *kafkago.Transport
	decode    func(key, value []byte, headers []kafkago.Header) core.Message

	mu    sync.Mutex
	parts [scratchPartitions][]core.Message // as far as they were read
	next  [scratchPartitions]int64          // offsets
}

func newKafkaReader(c kafka.Config, topic string, decode func(key, value []byte, headers []kafkago.Header) core.Message) *kafkaReader {
	transport := &kafkago.Transport{TLS: c.TLS, SASL: c.SASL, ClientID: c.ClientID, DialTimeout: 5 * time.Second, MetadataTTL: time.Second, Dial: c.Dial}
	return &kafkaReader{
		topic: topic, transport: transport, decode: decode,
		client: &kafkago.Client{Addr: kafkago.TCP(c.Brokers...), Timeout: 10 * time.Second, Transport: transport},
	}
}

// create makes the topic, and waits until each partition has a leader. A cluster that is busy refuses for a while.
func (r *kafkaReader) create(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	made := false
	for {
		var err error
		if !made {
			err = toTheEnd(ctx, r.request)
			made = err == nil || errors.Is(err, kafkago.TopicAlreadyExists)
		}
		if made {
			if _, err = r.ends(ctx); err == nil {
				return nil
			}
		}
		if hopeless(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// hopeless says that asking again does not help.
func hopeless(err error) bool {
	for _, refusal := range []kafkago.Error{
		kafkago.TopicAuthorizationFailed, kafkago.ClusterAuthorizationFailed, kafkago.SASLAuthenticationFailed, kafkago.PolicyViolation,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "dial"
}

// request asks for the topic once.
func (r *kafkaReader) request(ctx context.Context) error {
	cluster, err := r.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: []string{}})
	if err != nil {
		return err
	}
	answer, err := r.client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{Topics: []kafkago.TopicConfig{{
		Topic: r.topic, NumPartitions: scratchPartitions, ReplicationFactor: max(1, min(3, len(cluster.Brokers))),
		ConfigEntries: []kafkago.ConfigEntry{{ConfigName: "max.message.bytes", ConfigValue: strconv.Itoa(scratchLimit)}},
	}}})
	if err != nil {
		return err
	}
	return answer.Errors[r.topic]
}

func (r *kafkaReader) remove(ctx context.Context) error {
	defer r.transport.CloseIdleConnections()
	answer, err := r.client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{r.topic}})
	if err == nil {
		err = answer.Errors[r.topic]
	}
	if err == nil || errors.Is(err, kafkago.UnknownTopicOrPartition) {
		return nil
	}
	return fmt.Errorf("remove the topic %s: %w", r.topic, err)
}

// ends returns the offset behind each partition's last record.
func (r *kafkaReader) ends(ctx context.Context) (ends [scratchPartitions]int64, err error) {
	var asked []kafkago.OffsetRequest
	for p := range scratchPartitions {
		asked = append(asked, kafkago.LastOffsetOf(p))
	}
	answer, err := r.client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{r.topic: asked}})
	if err != nil {
		return ends, err
	}
	found := answer.Topics[r.topic]
	if len(found) != scratchPartitions {
		return ends, fmt.Errorf("%d of %d partitions answer", len(found), scratchPartitions)
	}
	for _, p := range found {
		if p.Error != nil {
			return ends, p.Error
		}
		ends[p.Partition] = p.LastOffset
	}
	return ends, nil
}

func (r *kafkaReader) stored(ctx context.Context) ([]core.Message, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends, err := r.ends(ctx)
	if err != nil {
		return nil, err
	}
	var all []core.Message
	for p, end := range ends {
		for r.next[p] < end {
			if err := r.fetch(ctx, p); err != nil {
				return nil, err
			}
		}
		all = append(all, r.parts[p]...)
	}
	return all, nil
}

// fetch reads some records behind those that were read.
func (r *kafkaReader) fetch(ctx context.Context, partition int) error {
	answer, err := r.client.Fetch(ctx, &kafkago.FetchRequest{
		Topic: r.topic, Partition: partition, Offset: r.next[partition], MinBytes: 1, MaxBytes: 8 << 20, MaxWait: time.Second,
	})
	if err != nil {
		return err
	}
	if answer.Error != nil {
		return answer.Error
	}
	for {
		record, err := answer.Records.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if record.Offset < r.next[partition] {
			continue // a batch is sent as a whole
		}
		key, err := kafkago.ReadAll(record.Key)
		if err != nil {
			return err
		}
		value, err := kafkago.ReadAll(record.Value)
		if err != nil {
			return err
		}
		m := r.decode(key, value, record.Headers)
		m.Topic = r.topic
		r.parts[partition], r.next[partition] = append(r.parts[partition], m), record.Offset+1
	}
}

func fromKafka(key, value []byte, headers []kafkago.Header) core.Message {
	m := core.Message{Key: string(key), Payload: value}
	for _, h := range headers {
		if h.Key == kafka.IDHeader {
			m.ID = string(h.Value)
		} else {
			setHeader(&m, h.Key, string(h.Value))
		}
	}
	return m
}

func fromWatermill(_, value []byte, headers []kafkago.Header) core.Message {
	m := core.Message{Payload: value}
	for _, h := range headers {
		switch h.Key {
		case wmkafka.UUIDHeaderKey:
			m.ID = string(h.Value)
		case watermill.KeyMetadata:
			m.Key = string(h.Value)
		default:
			setHeader(&m, h.Key, string(h.Value))
		}
	}
	return m
}
