// Package kafka publishes to Apache Kafka, through segmentio/kafka-go's Client.
//
// A message's topic is the Kafka topic, its key is the record key, its headers are record headers, and its ID is the
// header [IDHeader]. A record's partition is chosen by murmur2 over its key, as the Java client does by default.
// kafka-go's Writer is not used: it acknowledges nothing unless told to, and goes on producing after its context ended.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// IDHeader is the record header in which a message's ID travels.
const IDHeader = "lockstep-id"

const (
	// metadataTTL is how long a change of a partition's leader may stay unnoticed.
	metadataTTL = time.Second

	// requestTimeout bounds a request where the caller's context does not. It has to be set on the client as well:
	// without it kafka-go gives brokers 500 ms to replicate a batch, whatever the context says.
	requestTimeout = 30 * time.Second
)

var _ core.Broker = (*Broker)(nil)

// Config says how to reach the cluster.
type Config struct {
	// Brokers are the bootstrap servers, each host:port. Required.
	Brokers []string
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	if len(c.Brokers) == 0 {
		return errors.New("Brokers is empty: name at least one host:port")
	}
	if slices.Contains(c.Brokers, "") {
		return errors.New("Brokers has an empty entry: name each as host:port")
	}
	return nil
}

// Broker is a [core.Broker] for one Kafka cluster. Safe for concurrent use.
type Broker struct {
	transport *kafkago.Transport
	client    *kafkago.Client
	balancer  kafkago.Murmur2Balancer
	next      atomic.Uint64 // spreads messages without a key
}

// Open returns a broker for the cluster. It connects when first used; Close it after the relay ended.
func Open(config Config) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("kafka config: %w", err)
	}
	transport := &kafkago.Transport{ClientID: "lockstep", MetadataTTL: metadataTTL}
	return &Broker{
		transport: transport,
		client:    &kafkago.Client{Addr: kafkago.TCP(config.Brokers...), Timeout: requestTimeout, Transport: transport},
	}, nil
}

// Close closes the connections.
func (b *Broker) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// partition is where a record goes.
type partition struct {
	topic string
	id    int
}

// Publish implements [core.Broker]: one request, with one record batch, for each partition that is concerned, all at
// the same time, each answered by every in-sync replica (acks=all). Kafka stores a batch as a whole or not at all, so
// the messages of a partition share their result.
func (b *Broker) Publish(ctx context.Context, msgs []core.Message) error {
	partitions, err := b.partitions(ctx, msgs)
	if err != nil {
		return err
	}
	results := make([]error, len(msgs))
	batches := map[partition][]int{} // indexes into msgs
	unkeyed := b.next.Add(1)
	for i, m := range msgs {
		ids := partitions[m.Topic]
		if len(ids) == 0 {
			results[i] = fmt.Errorf("%w: kafka: topic %q: %w: create it, or wait until it is known", core.ErrUnavailable, m.Topic, kafkago.UnknownTopicOrPartition)
			continue
		}
		p := partition{m.Topic, ids[unkeyed%uint64(len(ids))]}
		if m.Key != "" {
			p.id = b.balancer.Balance(kafkago.Message{Key: []byte(m.Key)}, ids...)
		}
		batches[p] = append(batches[p], i)
	}
	var requests sync.WaitGroup
	for p, batch := range batches {
		requests.Go(func() {
			err := b.produce(ctx, p, msgs, batch)
			for _, i := range batch {
				results[i] = err
			}
		})
	}
	requests.Wait()
	for _, err := range results {
		if err != nil {
			return &core.BatchError{Results: results}
		}
	}
	return nil
}

// partitions returns the partitions of each topic in msgs, ascending; none for a topic that does not exist.
// kafka-go answers this from memory, which it refreshes every [metadataTTL].
func (b *Broker) partitions(ctx context.Context, msgs []core.Message) (map[string][]int, error) {
	topics := map[string][]int{}
	for _, m := range msgs {
		topics[m.Topic] = nil
	}
	answer, err := b.client.Metadata(ctx, &kafkago.MetadataRequest{Topics: slices.Collect(maps.Keys(topics))})
	if err != nil {
		return nil, fmt.Errorf("%w: kafka: read metadata: %w", core.ErrUnavailable, err)
	}
	for _, t := range answer.Topics {
		for _, p := range t.Partitions {
			topics[t.Name] = append(topics[t.Name], p.ID)
		}
		slices.Sort(topics[t.Name])
	}
	return topics, nil
}

// produce sends one batch and returns nil once it is stored.
func (b *Broker) produce(ctx context.Context, p partition, msgs []core.Message, batch []int) error {
	records := make([]kafkago.Record, len(batch))
	for n, i := range batch {
		records[n] = toRecord(msgs[i])
	}
	answer, err := b.client.Produce(ctx, &kafkago.ProduceRequest{
		Topic:        p.topic,
		Partition:    p.id,
		RequiredAcks: kafkago.RequireAll,
		Records:      kafkago.NewRecordReader(records...),
	})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		return fmt.Errorf("kafka: produce to %s/%d: %w", p.topic, p.id, classified(err))
	}
	if len(answer.RecordErrors) > 0 {
		return fmt.Errorf("kafka: produce to %s/%d: %d records refused: %v", p.topic, p.id, len(answer.RecordErrors), answer.RecordErrors)
	}
	return nil
}

// classified says what an error of Produce means for its records. What is not the broker's own word leaves their fate
// unknown, and so does a broker that gave up waiting for its replicas.
func classified(err error) error {
	var code kafkago.Error
	switch {
	case !errors.As(err, &code), code == kafkago.RequestTimedOut, code == kafkago.NotEnoughReplicasAfterAppend:
		return fmt.Errorf("%w: %w", core.ErrUncertain, err)
	case code.Temporary():
		return fmt.Errorf("%w: %w", core.ErrUnavailable, err)
	}
	return err
}

func toRecord(m core.Message) kafkago.Record {
	record := kafkago.Record{Value: kafkago.NewBytes(m.Payload)}
	if m.Payload == nil {
		record.Value = kafkago.NewBytes([]byte{}) // nil would be a tombstone
	}
	if m.Key != "" {
		record.Key = kafkago.NewBytes([]byte(m.Key))
	}
	record.Headers = append(record.Headers, kafkago.Header{Key: IDHeader, Value: []byte(m.ID)})
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		record.Headers = append(record.Headers, kafkago.Header{Key: name, Value: []byte(m.Headers[name])})
	}
	return record
}
