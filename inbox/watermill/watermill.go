// Package watermill puts an [inbox.Consumer] in front of Watermill's handlers.
//
//	router.AddMiddleware(watermill.Middleware(consumer))
//	router.AddConsumerHandler("billing", "orders", subscriber, func(m *message.Message) error {
//		tx := watermill.Tx(m.Context())
//		…
//	})
//
// The handler runs in the transaction that notes the message's UUID as received, and the router acknowledges the message
// when that is committed. The consumer tries again and buries by itself: leave Watermill's Retry and PoisonQueue out, which
// know nothing of a database that is away.
package watermill

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

// errProduced says what a handler returned that must not.
var errProduced = errors.New("the handler returned messages: the router would publish them after the commit, or never; " +
	"enqueue them in the transaction instead (broker/watermill has an OutboxPublisher), and return none")

// keyMetadata is where broker/watermill puts a message's key.
const keyMetadata = core.ReservedHeaderPrefix + "key"

type contextKey struct{}

// Tx returns the transaction in which the handler makes its effect; nil in a context that is not from [Middleware].
func Tx(ctx context.Context) *sql.Tx {
	tx, _ := ctx.Value(contextKey{}).(*sql.Tx)
	return tx
}

// Middleware makes a handler's effect happen once. The handler finds its transaction by [Tx] in the message's context, does
// not end it, and returns no messages: with those, nothing is committed and the message is refused. It gets a copy of the
// message each time, so that it cannot acknowledge before the commit.
//
// The message is settled when the handler returns: see [inbox.Consumer.Settle]. Meanwhile the subscriber waits, as for any
// handler that takes its time.
func Middleware(consumer *inbox.Consumer) message.HandlerMiddleware {
	return func(handler message.HandlerFunc) message.HandlerFunc {
		return func(original *message.Message) ([]*message.Message, error) {
			ctx, refuse := context.WithCancelCause(original.Context())
			defer refuse(nil)
			err := consumer.Settle(ctx, fromWatermill(original), func(ctx context.Context, tx *sql.Tx, _ core.Message) error {
				own := original.Copy()
				own.Payload = bytes.Clone(original.Payload) // which Copy shares
				own.SetContext(context.WithValue(ctx, contextKey{}, tx))
				produced, err := handler(own)
				if err == nil && len(produced) > 0 {
					err = errProduced
					refuse(err) // another attempt would do the same, and the message is not at fault
				}
				return err
			})
			if cause := context.Cause(ctx); errors.Is(cause, errProduced) {
				err = cause
			}
			if err != nil {
				return nil, fmt.Errorf("inbox watermill: %w", err)
			}
			return nil, nil
		}
	}
}

// fromWatermill returns m as the message that a dead letter is made of. It shares no memory with m, which handlers may change.
func fromWatermill(m *message.Message) core.Message {
	out := core.Message{
		ID: m.UUID, Topic: message.SubscribeTopicFromCtx(m.Context()), Key: m.Metadata.Get(keyMetadata),
		Headers: maps.Clone(m.Metadata), Payload: bytes.Clone(m.Payload),
	}
	delete(out.Headers, keyMetadata)
	return out
}
