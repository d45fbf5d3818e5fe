package watermill

import (
	"bytes"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/core"
)

// The metadata names of what Watermill has no place for. A message without a key, or without a known time, doesn't have
// them.
const (
	KeyMetadata        = "lockstep-key"
	EnqueuedAtMetadata = "lockstep-enqueued-at"
)

// enqueuedAtLayout is RFC 3339 in UTC, in the microseconds that databases keep.
const enqueuedAtLayout = "2006-01-02T15:04:05.000000Z"

// toWatermill returns m as a Watermill message that shares no memory with it: Watermill allows publishers to change what
// they are given, and some keep it.
func toWatermill(m core.Message) *message.Message {
	out := message.NewMessage(m.ID, bytes.Clone(m.Payload))
	maps.Copy(out.Metadata, m.Headers)
	if m.Key != "" {
		out.Metadata.Set(KeyMetadata, m.Key)
	}
	if !m.EnqueuedAt.IsZero() {
		out.Metadata.Set(EnqueuedAtMetadata, m.EnqueuedAt.UTC().Format(enqueuedAtLayout))
	}
	return out
}

// fromWatermill returns m as a message for topic, without what it says of an earlier journey: that it was enqueued then.
func fromWatermill(topic string, m *message.Message) core.Message {
	out := core.Message{ID: m.UUID, Topic: topic, Key: m.Metadata.Get(KeyMetadata), Payload: m.Payload}
	if len(m.Metadata) > 0 {
		out.Headers = maps.Clone(m.Metadata)
		delete(out.Headers, KeyMetadata)
		delete(out.Headers, EnqueuedAtMetadata)
	}
	return out
}

// PartitionKey returns the key by which a partitioned message system orders m: its [KeyMetadata], or, where it has none,
// its UUID, which spreads such messages over the partitions. It never fails. It is what watermill-kafka's partitioning
// marshaler asks for: kafka.NewWithPartitioningMarshaler(watermill.PartitionKey).
func PartitionKey(_ string, m *message.Message) (string, error) {
	if key := m.Metadata.Get(KeyMetadata); key != "" {
		return key, nil
	}
	return m.UUID, nil
}
