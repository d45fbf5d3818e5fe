package watermill

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/core"
)

var _ message.Publisher = (*OutboxPublisher)(nil)

// OutboxPublisherConfig sets how an [OutboxPublisher] writes. Its zero value works.
type OutboxPublisherConfig struct {
	// Key returns the key of a message that is published to topic: messages of one (topic, key) keep their order. An
	// empty key is no key, and no order. Its shape is that of watermill-kafka's GeneratePartitionKey. Defaults to the
	// message's [KeyMetadata]. That is never among the headers: what is decided here takes its place.
	Key func(topic string, m *message.Message) (string, error)
}

// OutboxPublisher is a Watermill publisher that writes messages into an outbox, as part of a transaction. It is made for
// one transaction, and is as safe for concurrent use as that is.
type OutboxPublisher struct {
	outbox *core.Outbox
	tx     core.Execer
	key    func(topic string, m *message.Message) (string, error)
}

// NewOutboxPublisher returns a publisher that writes to outbox in tx. See [core.Execer] for what tx can be.
func NewOutboxPublisher(outbox *core.Outbox, tx core.Execer, config OutboxPublisherConfig) *OutboxPublisher {
	return &OutboxPublisher{outbox: outbox, tx: tx, key: config.Key}
}

// Publish writes msgs to the outbox, in order and at once: they exist if and only if the transaction commits, and a relay
// delivers them then. Publish last, right before COMMIT; see [core.Outbox.Enqueue] for the reason. The UUID is the
// message's ID, a new one where it is empty; the metadata is its headers.
//
// The contexts are those of the messages: Publish ends when one of them is done, and fails. Values, such as the trace,
// are taken from the first one's.
//
// Errors are those of Enqueue, of a context and of the configured Key. A *[core.MessageError], [core.ErrNotInTransaction],
// [core.ErrNoKeyLocks] and an error of Key mean that nothing was written and the transaction can go on; after any other,
// roll it back. Neither the messages nor what they refer to are changed or kept.
func (p *OutboxPublisher) Publish(topic string, msgs ...*message.Message) error {
	events := make([]core.Message, len(msgs))
	for i, m := range msgs {
		events[i] = fromWatermill(topic, m)
		if p.key == nil {
			continue
		}
		var err error
		if events[i].Key, err = p.key(topic, m); err != nil {
			return fmt.Errorf("watermill: key of message %d: %w", i, err)
		}
	}
	ctx, cancel := joinContexts(msgs)
	defer cancel()
	if ctx.Err() != nil {
		return fmt.Errorf("watermill: enqueue: %w", context.Cause(ctx))
	}
	if err := p.outbox.Enqueue(ctx, p.tx, events...); err != nil {
		return fmt.Errorf("watermill: %w", err)
	}
	return nil
}

// Close does nothing: the transaction is ended by who began it.
func (*OutboxPublisher) Close() error { return nil }

// joinContexts returns the first message's context, done as soon as that of any message is.
func joinContexts(msgs []*message.Message) (context.Context, context.CancelFunc) {
	if len(msgs) == 0 {
		return context.Background(), func() {}
	}
	ctx, cancel := context.WithCancelCause(msgs[0].Context())
	var stops []func() bool
	for _, m := range msgs[1:] {
		other := m.Context()
		if other.Err() != nil {
			cancel(context.Cause(other)) // now, and not in a goroutine that may come too late
			break
		}
		stops = append(stops, context.AfterFunc(other, func() { cancel(context.Cause(other)) }))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel(nil)
	}
}
