package amqp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ core.Broker     = (*Broker)(nil)
	_ core.KeyOrdered = (*Pipelined)(nil)
)

// Broker is a [core.Broker] for one RabbitMQ cluster. Safe for concurrent use: each call has a connection of its own
// while it runs, which is kept for later calls.
type Broker struct {
	config       Config
	deliveryMode uint8
	nodes        []node
	dial         dialing
	answering    atomic.Int64 // the node that answered last
	unreachable  atomic.Bool  // the last ping failed
	running      sync.WaitGroup

	mu      sync.Mutex
	idle    []*session // the last is taken first
	open    map[*session]bool
	stalled int    // how many connections the broker has blocked
	alarm   string // why
	closed  bool
}

// Open returns a broker for the cluster. It connects when first used; Close it after the relay ended.
func Open(config Config) (*Broker, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("amqp config: %w", err)
	}
	b := &Broker{config: config, deliveryMode: amqp091.Persistent, dial: dialSocket, open: map[*session]bool{}}
	if config.Transient {
		b.deliveryMode = amqp091.Transient
	}
	for _, u := range config.URLs {
		n, err := parseNode(u)
		if err != nil {
			return nil, fmt.Errorf("amqp config: %w", err)
		}
		b.nodes = append(b.nodes, n)
	}
	return b, nil
}

// Close closes the connections. What is being published at that time becomes uncertain.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.closed = true
	idle := b.idle
	b.idle = nil
	for _, s := range idle {
		delete(b.open, s)
	}
	for s := range b.open {
		s.kill()
	}
	b.mu.Unlock()
	var closing sync.WaitGroup
	for _, s := range idle {
		closing.Go(s.close)
	}
	closing.Wait()
	b.running.Wait()
	return nil
}

// Publish implements [core.Broker]. All messages are sent at once, and each is stored when RabbitMQ has confirmed it
// without returning it before. Nothing keeps msgs after Publish returned.
func (b *Broker) Publish(ctx context.Context, msgs []core.Message) error {
	return b.publish(ctx, msgs, false)
}

func (b *Broker) publish(ctx context.Context, msgs []core.Message, keyed bool) error {
	c := &call{broker: b, msgs: msgs, keyed: keyed, results: make([]error, len(msgs)), states: make([]state, len(msgs))}
	defer c.end()
	return c.run(ctx)
}

// Pipelined is a Broker that takes several messages of one key in a call and sends them without waiting for each
// other's confirms. Make one with [Broker.Pipelined].
type Pipelined struct{ *Broker }

// Pipelined returns b as a [core.KeyOrdered], which makes a key with many messages many times faster: its messages don't
// wait for each other. The price: where RabbitMQ refuses message n of a key (a queue with the overflow behaviour
// reject-publish is full) or returns it (a binding is missing), n+1 may be stored before it, and their order is broken.
// n+1 is then sent again behind n, so that the last copies of all are in order. Use it where neither can happen:
// without reject-publish, and with bindings that stay.
func (b *Broker) Pipelined() *Pipelined { return &Pipelined{b} }

// Publish implements [core.Broker].
func (p *Pipelined) Publish(ctx context.Context, msgs []core.Message) error {
	return p.publish(ctx, msgs, true)
}

// KeyOrdered implements [core.KeyOrdered].
func (*Pipelined) KeyOrdered() {}

// take returns a session that nobody else uses.
func (b *Broker) take(ctx context.Context) (*session, error) {
	if err := ctx.Err(); err != nil {
		return nil, failure(core.ErrUnavailable, "begin", err)
	}
	b.mu.Lock()
	switch {
	case b.closed:
		b.mu.Unlock()
		return nil, fmt.Errorf("%w: amqp: the adapter is closed", core.ErrUnavailable)
	case b.stalled > 0:
		defer b.mu.Unlock()
		return nil, fmt.Errorf("%w: amqp: %w (it says: %s)", core.ErrUnavailable, errBlocked, b.alarm)
	}
	for n := len(b.idle); n > 0; n = len(b.idle) {
		s := b.idle[n-1]
		b.idle = b.idle[:n-1]
		if !s.conn.IsClosed() {
			b.mu.Unlock()
			return s, nil
		}
	}
	b.mu.Unlock()
	return b.connect(ctx)
}

// admit notes a new session and watches it, unless the broker was closed in the meantime.
func (b *Broker) admit(s *session, blockings <-chan amqp091.Blocking) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return errors.New("the adapter is closed")
	}
	b.open[s] = true
	b.running.Go(func() { s.watch(blockings) })
	return nil
}

// keep makes a session available to other calls.
func (b *Broker) keep(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		s.kill()
		return
	}
	b.idle = append(b.idle, s)
}

// forget drops a session whose connection has ended.
func (b *Broker) forget(s *session) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, s)
}

func (b *Broker) blocked(reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalled++
	b.alarm = reason
}

func (b *Broker) unblocked() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stalled--
}
