package bench

import (
	"context"

	"github.com/lockstep-go/lockstep/core"
)

// lanes is how many publishers work side by side wherever nothing else is said: as many as a relay has lanes, and as many
// partitions as a topic here has.
const lanes = 8

// stream is a topic or an exchange with a queue, made for trials.
type stream interface {
	place() Place
	// topic is its name.
	topic() string
	// broker opens Lockstep's adapter.
	broker() (core.Broker, func() error, error)
	// publisher opens a publisher by the broker's client alone. What two of them publish is ordered against nothing.
	publisher(lane int) (publisher, error)
	// read hands every message to add, in an order that is right for each key.
	read(ctx context.Context, add func(key, payload []byte) error) error
	// drop removes it.
	drop(ctx context.Context) error
}

// publisher publishes without any safety but for one: it returns when the broker has confirmed everything.
type publisher interface {
	publish(ctx context.Context, msgs []core.Message) error
	close() error
}

// openStream makes a topic, or a queue.
func openStream(ctx context.Context, kind, address string) (stream, error) {
	if kind == Kafka {
		return newKafka(ctx, address)
	}
	return newRabbitMQ(address)
}

// streamAt is openStream for one that is there.
func streamAt(p Place, topic string) stream {
	if p.Kind == Kafka {
		return kafkaAt(p.Address, topic)
	}
	return &rabbitStream{address: p.Address, name: topic}
}

// laneOf is FNV-1a, as the engine's.
func laneOf(key string) int {
	h := uint64(14_695_981_039_346_656_037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1_099_511_628_211
	}
	return int((h ^ h>>32) % lanes)
}
