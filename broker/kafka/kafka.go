// Package kafka publishes to Apache Kafka, through segmentio/kafka-go's Client.
//
// A message's topic is the Kafka topic, its key is the record key, its headers are record headers, its ID is the header
// [IDHeader], and the time at which it was enqueued is the record's timestamp; docs/messages.md has the whole mapping,
// that of CloudEvents included. A record's partition is chosen by murmur2 over its key, as the Java client does by
// default. Topics are never created: they must exist, and the relay's user needs Describe and Write on them.
// kafka-go's Writer is not used: it acknowledges nothing unless told to, and goes on producing after its context ended.
//
// # Batches
//
// Kafka stores a record batch as a whole or not at all, and bounds its size (max.message.bytes). What goes to a
// partition is therefore sent as a row of batches, each answered by every in-sync replica (acks=all) before the next is
// sent, and a batch that the broker refuses for what is in it is halved until only the guilty record is left.
//
// # Terms
//
// Under a relay, batches are numbered (Kafka calls it an idempotent producer): one whose answer was lost is sent again
// and stored once, and a late copy of one that was given up is refused. Each term of the outbox's lease shuts out those
// before it, partition by partition ([Broker.ForTerm]). The batches are not transactional, so that consumers need no
// settings. What remains are the duplicates of messages that were stored and not yet acknowledged in the outbox when a
// relay ended, and of those whose call ended without an answer: consumers recognise them by the ID.
//
// # A partition that is away
//
// Where one partition has no leader, or too few replicas in sync, its messages wait, uncounted. The topic's others go on, but slowly: the
// relay takes the topic for one that comes and goes (core's Limits).
//
// # Growing a topic
//
// More partitions move most keys to another one, and nothing orders a key's messages in the new partition behind those
// in the old one. Drain first: stop what enqueues for the topic, or stop the relay after the topic's last message is
// delivered; let the consumers read to the end; add the partitions; go on. A relay that finds a topic grown
// since it first published to it logs a warning.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

// IDHeader is the record header in which a message's ID travels; in a CloudEvent it is ce_id.
const IDHeader = "lockstep-id"

const (
	// metadataTTL is how long a change of a partition's leader may stay unnoticed.
	metadataTTL = time.Second

	// requestTimeout bounds a request where the caller's context does not. It has to be set on the client as well:
	// without it kafka-go gives brokers 500 ms to replicate a batch, whatever the context says.
	requestTimeout = 30 * time.Second
)

var (
	_ core.Broker     = (*Broker)(nil)
	_ core.KeyOrdered = (*Broker)(nil)
	_ core.KeyHasher  = (*Broker)(nil)
)

// Broker is a [core.Broker] for one Kafka cluster, a [core.KeyOrdered] and a [core.TermBroker]. Safe for concurrent use,
// by the relays of several outboxes as well.
type Broker struct {
	transport   *kafkago.Transport
	client      *kafkago.Client
	compression kafkago.Compression
	source      string // of CloudEvents; empty: native headers
	logger      *slog.Logger
	patience    time.Duration // doubtPatience
	plain       *producer     // for what is published outside of a term

	next          atomic.Uint64 // spreads messages without a key
	limits        sync.Map      // topic → the size of a batch that it is not known to refuse
	sizes         sync.Map      // topic → the number of its partitions
	uncoordinated atomic.Int32  // terms in a row that found no coordinator

	bootstrap   []string
	unreachable atomic.Bool // the last ping failed
}

// Open returns a broker for the cluster. It connects when first used; Close it after the relay ended.
func Open(config Config) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("kafka config: %w", err)
	}
	config = config.withDefaults()
	transport := &kafkago.Transport{
		Dial: dialer(config.Dial), DialTimeout: dialTimeout, MetadataTTL: metadataTTL,
		ClientID: config.ClientID, TLS: config.TLS, SASL: config.SASL,
	}
	b := &Broker{
		transport:   transport,
		client:      &kafkago.Client{Addr: kafkago.TCP(config.Brokers...), Timeout: requestTimeout, Transport: transport},
		compression: config.Compression, source: config.CloudEventsSource, logger: config.Logger, patience: doubtPatience,
		bootstrap: config.Brokers,
	}
	b.plain = newProducer(b, "", anonymous)
	return b, nil
}

// Close closes the connections.
func (b *Broker) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// KeyOrdered implements [core.KeyOrdered].
func (*Broker) KeyOrdered() {}

// HashKey implements [core.KeyHasher]: a key's partition is the remainder of murmur2 over the key, as the Java client has it.
func (*Broker) HashKey(_, key string) uint32 { return murmur2(key) & 0x7fffffff }

// Publish implements [core.Broker]. Each record batch is answered by every in-sync replica (acks=all) before the next
// one of its partition is sent; the partitions are served at the same time. Calls that run at the same time queue for
// each partition. Nothing is numbered here: a relay publishes through [Broker.ForTerm].
func (b *Broker) Publish(ctx context.Context, msgs []core.Message) error {
	return b.publish(ctx, b.plain, msgs)
}

func (b *Broker) publish(ctx context.Context, p *producer, msgs []core.Message) error {
	topics := map[string][]int{} // indexes into msgs
	for i := range msgs {
		topics[msgs[i].Topic] = append(topics[msgs[i].Topic], i)
	}
	c := &call{msgs: msgs, results: make([]error, len(msgs))}
	var waiting sync.WaitGroup
	for topic, batch := range topics {
		waiting.Go(func() { b.publishTopic(ctx, p, c, topic, batch) })
	}
	waiting.Wait()
	for _, err := range c.results {
		if err != nil {
			return &core.BatchError{Results: c.results}
		}
	}
	return nil
}

// publishTopic sends the messages of one topic, all its partitions at the same time.
func (b *Broker) publishTopic(ctx context.Context, p *producer, c *call, topic string, batch []int) {
	ids, err := b.partitions(ctx, topic)
	if err != nil {
		c.fail(batch, err)
		return
	}
	var waiting sync.WaitGroup
	for id, batch := range b.divide(c, batch, ids) {
		s := newSender(b, p, c, partition{topic, id})
		waiting.Go(func() { s.run(ctx, batch) })
	}
	waiting.Wait()
}

// divide gives each partition its messages: those with a key by the key, the others to one partition after another,
// a batch for each.
func (b *Broker) divide(c *call, batch, ids []int) map[int][]int {
	divided := make(map[int][]int, len(ids))
	loose, bytes := 0, maxBatchBytes // a first record begins a batch
	for _, i := range batch {
		m := &c.msgs[i]
		var id int
		if m.Key != "" {
			id = ids[int(b.HashKey(m.Topic, m.Key))%len(ids)]
		} else {
			if bytes += b.recordBytes(m); bytes > maxBatchBytes {
				loose, bytes = ids[b.next.Add(1)%uint64(len(ids))], b.recordBytes(m)
			}
			id = loose
		}
		divided[id] = append(divided[id], i)
	}
	return divided
}

// call is one Publish call. Its parts write to results at different places, and so need no lock.
type call struct {
	msgs    []core.Message
	results []error
}

// fail gives the messages of batch the result err. Where it says that the first of a key is not stored, the later ones
// were not attempted.
func (c *call) fail(batch []int, err error) {
	failed := map[string]bool{}
	for _, i := range batch {
		key := c.msgs[i].Key
		c.results[i] = err
		if key != "" && failed[key] && !errors.Is(err, core.ErrUncertain) {
			c.results[i] = behind(err)
		}
		failed[key] = true
	}
}

// behind is the result of a message that was not sent because of err.
func behind(err error) error {
	return fmt.Errorf("%w: kafka: an earlier message failed: %v", core.ErrNotAttempted, err)
}
