package all

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// besideAMQP is what the program does beside publishing, where config leads.
type besideAMQP struct {
	config    amqp.Config
	pipelined bool
}

// ScratchTopic implements [config.ScratchBroker]: an exchange with a queue behind it, both of that name and durable.
func (a besideAMQP) ScratchTopic(ctx context.Context, name string, through config.Through) (_ *config.ScratchTopic, err error) {
	c := amqp.Config{TLS: a.config.TLS}
	for _, node := range a.config.URLs {
		if node, err = nodeThrough(node, through); err != nil {
			return nil, err
		}
		c.URLs = append(c.URLs, node)
	}
	broker, err := amqp.Open(c)
	if err != nil {
		return nil, err
	}
	elsewhere, err := amqp.Open(c)
	if err != nil {
		return nil, errors.Join(err, broker.Close())
	}
	q := &scratchQueue{nodes: a.config.URLs, name: name}
	closed := false
	queues := []*scratchQueue{q}
	s := &config.ScratchTopic{
		Broker: broker, Elsewhere: elsewhere, Topic: name, Stored: q.stored, Where: "the exchange and the queue " + name,
		Poison: func(m core.Message) core.Message { // RabbitMQ wants a list there, and headers are text
			m.Headers = maps.Clone(m.Headers)
			if m.Headers == nil {
				m.Headers = map[string]string{}
			}
			m.Headers["CC"] = "x"
			return m
		},
		Remove: func(ctx context.Context) error {
			var errs []error
			if !closed {
				errs, closed = append(errs, broker.Close(), elsewhere.Close()), true
			}
			for _, q := range queues {
				errs = append(errs, q.remove(ctx))
			}
			return errors.Join(errs...)
		},
	}
	s.Other = func(ctx context.Context) (string, func(ctx context.Context) ([]core.Message, error), error) {
		other := &scratchQueue{nodes: q.nodes, name: name + otherTopic}
		queues = append(queues, other)
		s.Where += " and the exchange and the queue " + other.name
		if err := toTheEnd(ctx, other.declare); err != nil {
			return "", nil, fmt.Errorf("make a second throw-away exchange and queue: %w", err)
		}
		return other.name, other.stored, nil
	}
	if a.pipelined {
		s.Broker, s.Elsewhere = broker.Pipelined(), elsewhere.Pipelined()
	}
	if err := toTheEnd(ctx, q.declare); err != nil {
		return nil, errors.Join(fmt.Errorf("make a throw-away exchange and queue: %w", err), s.Remove(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// nodeThrough leads a node's URL through, and has its certificate be that of the node.
func nodeThrough(node string, through config.Through) (string, error) {
	if through == nil {
		return node, nil
	}
	u, err := url.Parse(node)
	if err != nil {
		return "", errors.New("a node's URL cannot be parsed")
	}
	query := u.Query()
	if u.Scheme == "amqps" && !query.Has("server_name_indication") {
		query.Set("server_name_indication", u.Hostname())
		u.RawQuery = query.Encode()
	}
	u.Host, err = through(u.Host)
	return u.String(), err
}

// scratchQueue makes, reads and removes an exchange and its queue, without any of the adapter's code.
type scratchQueue struct {
	nodes []string
	name  string

	mu    sync.Mutex
	taken []core.Message // a queue gives its messages away
}

func (q *scratchQueue) declare(ctx context.Context) error {
	return q.onChannel(ctx, func(c *amqp091.Channel) error {
		if err := c.ExchangeDeclare(q.name, "topic", true, false, false, false, nil); err != nil {
			return err
		}
		if _, err := c.QueueDeclare(q.name, true, false, false, false, nil); err != nil {
			return err
		}
		return c.QueueBind(q.name, "#", q.name, false, nil)
	})
}

func (q *scratchQueue) remove(ctx context.Context) error {
	err := q.onChannel(ctx, func(c *amqp091.Channel) error { return c.ExchangeDelete(q.name, false, false) })
	err = errors.Join(err, q.onChannel(ctx, func(c *amqp091.Channel) error {
		_, err := c.QueueDelete(q.name, false, false, false)
		return err
	}))
	if err != nil {
		return fmt.Errorf("remove the exchange and the queue %s: %w", q.name, err)
	}
	return nil
}

func (q *scratchQueue) stored(ctx context.Context) (_ []core.Message, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	err = q.onChannel(ctx, func(c *amqp091.Channel) error {
		for {
			d, ok, err := c.Get(q.name, true)
			if err != nil || !ok {
				return err
			}
			q.taken = append(q.taken, fromAMQP(&d))
		}
	})
	return q.taken[:len(q.taken):len(q.taken)], err
}

func fromAMQP(d *amqp091.Delivery) core.Message {
	m := core.Message{ID: d.MessageId, Topic: d.Exchange, Payload: d.Body}
	if d.ContentType != "" {
		setHeader(&m, amqp.ContentTypeHeader, d.ContentType)
	}
	for name, value := range d.Headers {
		text, ok := value.(string)
		switch {
		case ok && name == amqp.KeyHeader:
			m.Key = text
		case ok:
			setHeader(&m, name, text)
		}
	}
	return m
}

// onChannel runs use on a connection of its own.
func (q *scratchQueue) onChannel(ctx context.Context, use func(*amqp091.Channel) error) error {
	conn, err := q.dial(ctx)
	if err != nil {
		return err
	}
	end := func(grace time.Duration) { _ = conn.CloseDeadline(time.Now().Add(grace)) } // what it was for is done, or failed
	stop := context.AfterFunc(ctx, func() { end(time.Second) })
	defer func() {
		if stop() {
			end(5 * time.Second)
		}
	}()
	channel, err := conn.Channel()
	if err != nil {
		return err
	}
	return use(channel)
}

// dial connects to the first node that can be reached.
func (q *scratchQueue) dial(ctx context.Context) (*amqp091.Connection, error) {
	var faults []error
	for _, node := range q.nodes {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		conn, err := amqp091.DialConfig(node, amqp091.Config{Dial: amqp091.DefaultDial(10 * time.Second)})
		if err == nil {
			return conn, nil
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}
