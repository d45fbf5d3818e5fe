package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
)

// rabbitStream is a topic exchange with a quorum queue behind it, of one name.
type rabbitStream struct{ address, name string }

func newRabbitMQ(address string) (stream, error) {
	r := &rabbitStream{address, freshName()}
	err := r.with(func(c *amqp091.Channel) error {
		if err := c.ExchangeDeclare(r.name, "topic", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := c.QueueDeclare(r.name, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
			return err
		}
		return c.QueueBind(r.name, "#", r.name, false, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("create a RabbitMQ queue: %w", err)
	}
	return r, nil
}

// with runs do on a channel of its own.
func (r *rabbitStream) with(do func(c *amqp091.Channel) error) (err error) {
	conn, err := amqp091.Dial(r.address)
	if err != nil {
		return err
	}
	defer closing(&err, conn.Close)
	c, err := conn.Channel()
	if err != nil {
		return err
	}
	return do(c)
}

func (r *rabbitStream) place() Place  { return Place{RabbitMQ, r.address} }
func (r *rabbitStream) topic() string { return r.name }

func (r *rabbitStream) drop(context.Context) error {
	return r.with(func(c *amqp091.Channel) error {
		if _, err := c.QueueDelete(r.name, false, false, false); err != nil {
			return err
		}
		return c.ExchangeDelete(r.name, false, false)
	})
}

func (r *rabbitStream) broker() (core.Broker, func() error, error) {
	b, err := amqp.Open(amqp.Config{URLs: []string{r.address}})
	if err != nil {
		return nil, nil, err
	}
	return b, b.Close, nil
}

func (r *rabbitStream) publisher(int) (publisher, error) {
	conn, err := amqp091.Dial(r.address)
	if err != nil {
		return nil, err
	}
	c, err := conn.Channel()
	if err == nil {
		err = c.Confirm(false)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &rabbitPublisher{conn, c}, nil
}

type rabbitPublisher struct {
	conn    *amqp091.Connection
	channel *amqp091.Channel
}

// publish has at most as many messages on the way as it is given.
func (p *rabbitPublisher) publish(ctx context.Context, msgs []core.Message) error {
	confirms := make([]*amqp091.DeferredConfirmation, len(msgs))
	for i := range msgs {
		m := &msgs[i]
		var err error
		confirms[i], err = p.channel.PublishWithDeferredConfirm(m.Topic, m.Key, true, false, amqp091.Publishing{
			MessageId: m.ID, DeliveryMode: amqp091.Persistent, Headers: amqp091.Table{amqp.KeyHeader: m.Key}, Body: m.Payload,
		})
		if err != nil {
			return err
		}
	}
	for _, c := range confirms {
		if stored, err := c.WaitContext(ctx); err != nil || !stored {
			return errors.Join(err, errors.New("RabbitMQ did not confirm a message"))
		}
	}
	return nil
}

func (p *rabbitPublisher) close() error { return p.conn.Close() }

// silence is how long a queue that counts no messages any more is waited for.
const silence = 500 * time.Millisecond

// read goes on until nothing came for a while: the count of a quorum queue comes late.
func (r *rabbitStream) read(ctx context.Context, add func(key, payload []byte) error) error {
	return r.with(func(c *amqp091.Channel) error {
		arriving, err := c.ConsumeWithContext(ctx, r.name, "", true, true, false, false, nil)
		if err != nil {
			return err
		}
		timer := time.NewTimer(silence)
		defer timer.Stop()
		for {
			select {
			case m, open := <-arriving:
				if !open {
					return errors.Join(ctx.Err(), errors.New("RabbitMQ ended the consumer"))
				}
				key, _ := m.Headers[amqp.KeyHeader].(string)
				if err := add([]byte(key), m.Body); err != nil {
					return err
				}
				timer.Reset(silence)
			case <-timer.C:
				queue, err := c.QueueDeclarePassive(r.name, true, false, false, false, nil)
				if err != nil || queue.Messages == 0 {
					return err
				}
				timer.Reset(silence)
			}
		}
	})
}
