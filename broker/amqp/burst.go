package amqp

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
)

var (
	errBlocked = errors.New("the broker has blocked its publishers: free memory or disk space there, or raise its alarms' limits")
	errRefused = errors.New("the broker refused it (nack): a queue is full and rejects what is published, or has failed: " +
		"have its messages consumed, or raise its limit")
	errNobody = errors.New("the connection ended without a word")
)

// burst is messages that are sent one after another on one channel, without waiting for each other's confirms.
type burst struct {
	call    *call
	session *session
	channel *channel
	batch   []int
	// confirms are those of the first messages of batch, which were sent; the first of them are answered.
	confirms []*amqp091.DeferredConfirmation
	answered int
	// returned holds the returns that were read, by message ID. Where two messages have the same, both count as
	// returned: one of them is sent again needlessly.
	returned map[string]amqp091.Return
	grace    <-chan time.Time // fires when a broker that is blocked has been waited for long enough
	ended    bool             // the channel has
}

// send sends batch on the session's channel and settles what RabbitMQ answers. It returns the exception with which
// RabbitMQ closed the channel, if it did, or why not everything was answered.
func (c *call) send(ctx context.Context, batch []int) (*amqp091.Error, error) {
	b := &burst{
		call: c, session: c.session, channel: c.session.channel, batch: batch,
		confirms: make([]*amqp091.DeferredConfirmation, 0, len(batch)),
	}
	err := b.run(ctx)
	switch {
	case err != nil || !b.unanswered():
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return b.exception(ctx)
}

func (b *burst) unanswered() bool { return b.answered < len(b.batch) || b.ended }

// run returns nil where everything is answered, or the channel has ended.
func (b *burst) run(ctx context.Context) error {
	b.session.socket.hold()
	err := b.publish(ctx)
	if flushed := b.session.socket.release(); flushed != nil {
		b.session.kill() // amqp091 thinks that it was written
	}
	for err == nil && b.answered < len(b.confirms) {
		err = b.await(ctx)
	}
	for b.answered < len(b.confirms) { // what came in the meantime
		b.settle()
	}
	return err
}

// publish sends until everything is sent, the channel has ended, or there is a reason to stop, which it returns.
func (b *burst) publish(ctx context.Context) error {
	for n, i := range b.batch {
		if n-b.answered >= window {
			if err := b.session.socket.release(); err != nil {
				return err
			}
			for n-b.answered > window/2 { // half, so that the rest is again written together
				if err := b.await(ctx); err != nil {
					return err
				}
			}
			b.session.socket.hold()
		}
		if b.session.isBlocked() {
			return errBlocked
		}
		m := &b.call.msgs[i]
		before := b.call.states[i]
		b.call.states[i] = sent
		confirm, err := b.channel.PublishWithDeferredConfirm(exchange(m.Topic), routingKey(m), true, false, b.call.broker.publishing(m))
		if err != nil {
			if errors.Is(err, amqp091.ErrClosed) {
				b.call.states[i] = before // not all of it was written, and so RabbitMQ does not store it
			}
			b.ended = true
			return nil
		}
		b.call.attempted = true
		b.confirms = append(b.confirms, confirm)
	}
	return nil
}

// await waits for the next confirm and settles its message.
func (b *burst) await(ctx context.Context) error {
	confirm := b.confirms[b.answered]
	select {
	case <-confirm.Done():
		b.settle()
		return nil
	default:
	}
	for {
		select {
		case <-confirm.Done():
			b.settle()
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-b.session.alarmed:
			b.grace = time.After(patience)
		case <-b.grace:
			b.grace = nil
			if b.session.isBlocked() {
				return errBlocked
			}
		}
	}
}

// settle settles the next message by its confirm, as far as that has come. A confirm that says no says so of every
// message as well when the channel dies; then it means nothing.
func (b *burst) settle() {
	confirm, i := b.confirms[b.answered], b.batch[b.answered]
	b.answered++
	switch {
	case confirm.Acked():
		b.call.settle(i, b.returnOf(i))
	case !isDone(confirm):
	case b.channel.IsClosed():
		b.ended = true
	default:
		b.call.settle(i, failure(core.ErrUnavailable, b.call.doing(i), errRefused))
	}
}

func isDone(confirm *amqp091.DeferredConfirmation) bool {
	select {
	case <-confirm.Done():
		return true
	default:
		return false
	}
}

// returnOf returns the failure of a message that was confirmed, and returned before that; nil where it was not.
func (b *burst) returnOf(i int) error {
	for len(b.channel.returns) > 0 {
		r, open := <-b.channel.returns
		if !open {
			break
		}
		if b.returned == nil {
			b.returned = map[string]amqp091.Return{}
		}
		b.returned[r.MessageId] = r
	}
	if len(b.returned) == 0 {
		return nil
	}
	r, ok := b.returned[b.call.msgs[i].ID]
	if !ok {
		return nil
	}
	reply := &amqp091.Error{Code: int(r.ReplyCode), Reason: r.ReplyText, Server: true}
	return failure(verdictOf(reply).class(), b.call.doing(i)+": returned", reply)
}

// exception returns why RabbitMQ closed the channel, or an error where it is the connection that has ended.
func (b *burst) exception(ctx context.Context) (*amqp091.Error, error) {
	var reason *amqp091.Error
	select {
	case reason = <-b.channel.closed:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	switch {
	case reason == nil:
		return nil, errNobody
	case b.session.conn.IsClosed():
		return nil, fmt.Errorf("the connection was lost: %w", reason)
	}
	b.session.channel = nil
	return reason, nil
}
