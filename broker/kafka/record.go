package kafka

import (
	"maps"
	"slices"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

// eventPrefix begins the names of the record headers that are attributes of a CloudEvent.
const eventPrefix = "ce_"

// header is a record header.
type header struct{ name, value string }

// headers appends the record headers of m to all: those that Lockstep adds, and m's own by name.
func (b *Broker) headers(all []header, m *core.Message) []header {
	if b.source == "" {
		all = append(all, header{IDHeader, m.ID})
	} else {
		for _, a := range cloudevents.Attributes(m, b.source) {
			all = append(all, header{eventPrefix + a.Name, a.Value})
		}
	}
	if len(m.Headers) == 0 {
		return all
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		all = append(all, header{name, m.Headers[name]})
	}
	return all
}

// maxBatchBytes is where a record batch ends, unless it holds a single record. Kafka's default max.message.bytes,
// which bounds the batch, is 1 048 588; the largest message of core fits into that.
const maxBatchBytes = 900_000

// What a batch, a record and a header take beside the bytes they carry, at most.
const (
	batchFraming  = 61
	recordFraming = 32
	headerFraming = 10
)

// recordBytes returns what m takes in a batch, at most.
func (b *Broker) recordBytes(m *core.Message) int {
	n := recordFraming + len(m.Key) + len(m.Payload) + headerFraming + len(IDHeader) + len(m.ID)
	if b.source != "" {
		for _, a := range cloudevents.Attributes(m, b.source) {
			n += headerFraming + len(eventPrefix) + len(a.Name) + len(a.Value)
		}
	}
	for name, value := range m.Headers {
		n += headerFraming + len(name) + len(value)
	}
	return n
}

// batchLimit returns where the record batches for a topic end: what it is not known to refuse.
func (b *Broker) batchLimit(topic string) int {
	if limit, ok := b.limits.Load(topic); ok {
		return limit.(int)
	}
	return maxBatchBytes
}

// shorten notes that a topic has refused msgs as too many bytes: its max.message.bytes is below the default. Smaller
// batches spare it, and us, the halving of each.
func (b *Broker) shorten(topic string, msgs []*core.Message) {
	bytes := batchFraming
	for _, m := range msgs {
		bytes += b.recordBytes(m)
	}
	b.limits.Store(topic, min(b.batchLimit(topic), bytes/2))
}

// cut returns how many messages, from the first of batch on, make the next record batch.
func (s *sender) cut(batch []int) int {
	bytes, limit := batchFraming, s.broker.batchLimit(s.partition.topic)
	for n, i := range batch {
		if bytes += s.broker.recordBytes(&s.call.msgs[i]); bytes > limit && n > 0 {
			return n
		}
	}
	return len(batch)
}
