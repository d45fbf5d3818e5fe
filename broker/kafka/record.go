package kafka

import (
	"maps"
	"slices"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
)

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
func recordBytes(m *core.Message) int {
	n := recordFraming + len(m.Key) + len(m.Payload) + headerFraming + len(IDHeader) + len(m.ID)
	for name, value := range m.Headers {
		n += headerFraming + len(name) + len(value)
	}
	return n
}

// cut returns how many messages, from the first of batch on, make the next record batch.
func (c *call) cut(batch []int) int {
	bytes := batchFraming
	for n, i := range batch {
		if bytes += recordBytes(&c.msgs[i]); bytes > maxBatchBytes && n > 0 {
			return n
		}
	}
	return len(batch)
}

func toRecord(m *core.Message) kafkago.Record {
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
