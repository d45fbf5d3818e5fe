// Package amqp runs an [inbox.Consumer] on a queue of RabbitMQ, through amqp091-go.
//
// A delivery is acknowledged when the effect is committed, or the message is stored as a dead letter. One that fails is
// tried again here, with growing pauses, and not requeued between: a requeued message comes back at once, and classic queues
// count no attempts. It takes up one place of the prefetch meanwhile. What is unacknowledged when the connection ends, or
// the process, RabbitMQ delivers to others; what of it had its effect is found in the inbox.
//
// A quorum queue counts the deliveries that crashes gave back, and in the end drops the message: before that it becomes a
// dead letter ([Config.MaxDeliveries]), if the database says that it had no effect and DeadLetters takes it. In a classic queue
// nothing stops a message that kills its consumers.
//
// What is held for longer than RabbitMQ's consumer_timeout, 30 minutes by default, as in an outage, RabbitMQ takes back, and
// ends the consumer. It begins anew, and what it held beside that was given back, which is counted.
package amqp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

const (
	defaultPrefetch = 16
	// defaultMaxDeliveries is below the 20 after which RabbitMQ 4 drops a message.
	defaultMaxDeliveries = 16
	connectTimeout       = 5 * time.Second
	// writeTimeout ends a connection to a broker that takes nothing in: without it an acknowledgement waits for good.
	writeTimeout = 10 * time.Second
	heartbeat    = 10 * time.Second
	// The pause before connecting again, from the first to the longest.
	firstPause, lastPause = 100 * time.Millisecond, 5 * time.Second
)

// Config says what to read. Its required fields are marked.
type Config struct {
	// URLs name the nodes of one cluster, which are tried in turn: amqp://user:password@host:port/vhost, or amqps:// for
	// TLS, percent-encoded. Required.
	URLs []string
	// TLS is used for amqps URLs. Defaults to the system's certificate authorities and the host's name.
	TLS *tls.Config
	// Queue is what is read. It must exist. Required.
	Queue string
	// Prefetch is how many deliveries are settled at the same time. With 1 they are settled in the queue's order, as long
	// as nobody else reads it (x-single-active-consumer). At most 65535. Defaults to 16.
	Prefetch int
	// MaxDeliveries is how many deliveries that were never acknowledged make a dead letter of a message without an effect: it
	// may be what kills its consumers. So may be one of the Prefetch - 1 beside it, which are counted with it; with a
	// Prefetch of 1 there are none. Consumers that are restarted, also while the database is away, count too. Only quorum
	// queues count them (x-delivery-count). Keep it below the queue's x-delivery-limit, at which RabbitMQ drops the message, also
	// where no dead letter can be made of it yet. Where that limit is -1, which is none, math.MaxInt means never. Defaults
	// to 16; RabbitMQ 4's limit is 20.
	MaxDeliveries int
	// IDHeader is the header that holds the message's id. Defaults to the property message-id, and in a CloudEvent to the
	// header cloudEvents:id.
	IDHeader string
	// Logger is told why the connection was lost. Defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports every field that is missing or out of range. What it says never holds a password.
func (c Config) Validate() error {
	var faults []error
	if len(c.URLs) == 0 {
		faults = append(faults, errors.New("URLs is empty: name at least one amqp://user:password@host:port/vhost"))
	}
	for i, u := range c.URLs {
		if _, err := amqp091.ParseURI(u); err != nil { // whose own words may quote the password
			faults = append(faults, fmt.Errorf("URLs[%d] is no amqp:// or amqps:// URL: percent-encode what is special in it", i))
		}
	}
	if c.Queue == "" {
		faults = append(faults, errors.New("Queue is empty: name what to read"))
	}
	if c.Prefetch < 0 {
		faults = append(faults, fmt.Errorf("Prefetch is %d: it must not be negative", c.Prefetch))
	}
	if c.Prefetch > math.MaxUint16 { // AMQP has 16 bits for it, and 0 in them is no bound at all
		faults = append(faults, fmt.Errorf("Prefetch is %d: it must be at most %d", c.Prefetch, math.MaxUint16))
	}
	if c.MaxDeliveries < 0 {
		faults = append(faults, fmt.Errorf("MaxDeliveries is %d: it must not be negative", c.MaxDeliveries))
	}
	return errors.Join(faults...)
}

// Loop consumes. Several of a queue, in one process or in many, share its messages.
type Loop struct {
	consumer *inbox.Consumer
	effect   inbox.Effect
	config   Config

	connectTimeout, writeTimeout time.Duration
}

// New returns a loop that settles what it reads with consumer, by effect. It connects to nothing yet.
func New(consumer *inbox.Consumer, effect inbox.Effect, config Config) (*Loop, error) {
	if err := config.Validate(); err != nil {
		return nil, fmt.Errorf("inbox amqp config: %w", err)
	}
	if config.Prefetch == 0 {
		config.Prefetch = defaultPrefetch
	}
	if config.MaxDeliveries == 0 {
		config.MaxDeliveries = defaultMaxDeliveries
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	config.Logger = config.Logger.With("queue", config.Queue)
	return &Loop{
		consumer: consumer, effect: effect, config: config, connectTimeout: connectTimeout, writeTimeout: writeTimeout,
	}, nil
}

// Run consumes until ctx is done, and returns nil then: effects that are under way are rolled back, and RabbitMQ delivers
// their messages again. While RabbitMQ is away, or the queue is, it goes on trying. Any other error is that of a dead letter
// that nothing accepts ([inbox.Consumer.Settle]).
func (l *Loop) Run(ctx context.Context) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	pause := firstPause
	for try := 0; ctx.Err() == nil; try++ {
		began := time.Now()
		err := l.consume(ctx, l.config.URLs[try%len(l.config.URLs)], fail)
		if ctx.Err() != nil {
			break
		}
		l.config.Logger.Warn("RabbitMQ is not connected, and is tried again", "error", err)
		if time.Since(began) > lastPause {
			pause = firstPause // it has worked for a while
		}
		wait(ctx, pause)
		pause = min(2*pause, lastPause)
	}
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) && !errors.Is(cause, context.DeadlineExceeded) {
		return fmt.Errorf("inbox amqp: %w", cause)
	}
	return nil
}

// consume reads over one connection, until it ends or ctx does.
func (l *Loop) consume(ctx context.Context, url string, fail context.CancelCauseFunc) error {
	ctx, cancel := context.WithCancel(ctx) // ends with the connection
	defer cancel()
	conn, err := l.dial(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseDeadline(time.Now().Add(time.Second)) }() // it may have been lost, which is known elsewhere
	channel, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	lost := channel.NotifyClose(make(chan *amqp091.Error, 1))
	if err := channel.Qos(l.config.Prefetch, 0, false); err != nil {
		return fmt.Errorf("set the prefetch: %w", err)
	}
	deliveries, err := channel.Consume(l.config.Queue, "", false, false, false, false, nil)
	if err != nil {
		return fmt.Errorf("consume the queue %q: %w", l.config.Queue, err)
	}
	var workers sync.WaitGroup
	for range l.config.Prefetch {
		workers.Go(func() { l.settle(ctx, deliveries, fail, cancel) })
	}
	err = errors.New("the connection is closed")
	select {
	case closed := <-lost:
		if closed != nil {
			err = closed
		}
	case <-ctx.Done():
		err = ctx.Err()
	}
	cancel()
	workers.Wait()
	return err
}

// settle is a worker. It acknowledges each delivery that is settled, and nothing else.
func (l *Loop) settle(ctx context.Context, deliveries <-chan amqp091.Delivery, fail context.CancelCauseFunc, lost context.CancelFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case d, open := <-deliveries:
			if !open {
				lost()
				return
			}
			if err := l.settleOne(ctx, &d); err != nil {
				if ctx.Err() == nil {
					fail(err)
				}
				return
			}
			if err := d.Ack(false); err != nil {
				lost() // it is delivered again, and found in the inbox
				return
			}
		}
	}
}

func (l *Loop) settleOne(ctx context.Context, d *amqp091.Delivery) error {
	m := l.message(d)
	if earlier, _ := d.Headers[deliveryCountHeader].(int64); earlier >= int64(l.config.MaxDeliveries) {
		return l.consumer.Bury(ctx, m, fmt.Errorf("%d deliveries ended without an acknowledgement: it may be what kills its consumers", earlier))
	}
	return l.consumer.Settle(ctx, m, l.effect)
}

func (l *Loop) dial(ctx context.Context, url string) (*amqp091.Connection, error) {
	conn, err := amqp091.DialConfig(url, amqp091.Config{
		Heartbeat:       heartbeat,
		TLSClientConfig: l.config.TLS,
		Properties:      amqp091.Table{"connection_name": "lockstep inbox"},
		Dial:            func(network, address string) (net.Conn, error) { return l.socket(ctx, network, address) },
	})
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// socket connects to address, within a time that the handshakes share, TLS's included.
func (l *Loop) socket(ctx context.Context, network, address string) (net.Conn, error) {
	deadline := time.Now().Add(l.connectTimeout)
	conn, err := (&net.Dialer{Deadline: deadline}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadDeadline(deadline); err != nil { // amqp091 clears it
		return nil, errors.Join(err, conn.Close())
	}
	return writing{conn, l.writeTimeout}, nil
}

// writing gives every write a deadline.
type writing struct {
	net.Conn
	timeout time.Duration
}

func (w writing) Write(p []byte) (int, error) {
	if err := w.SetWriteDeadline(time.Now().Add(w.timeout)); err != nil {
		return 0, err
	}
	return w.Conn.Write(p)
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// The headers of broker/amqp that stand for a field: see docs/messages.md.
const (
	keyHeader         = core.ReservedHeaderPrefix + "key"
	enqueuedAtHeader  = core.ReservedHeaderPrefix + "enqueued-at"
	contentTypeHeader = "content-type"
	eventIDHeader     = "cloudEvents:id"
	eventKeyHeader    = "cloudEvents:partitionkey"
	eventTimeHeader   = "cloudEvents:time"
)

// deliveryCountHeader is where a quorum queue says how often it has delivered the message before.
const deliveryCountHeader = "x-delivery-count"

// message is the delivery as broker/amqp was given it, with the queue as its topic where the default exchange sent it.
// Headers that are no text are written as Go would print them.
func (l *Loop) message(d *amqp091.Delivery) core.Message {
	m := core.Message{
		ID: d.MessageId, Topic: d.Exchange, Payload: d.Body, EnqueuedAt: d.Timestamp, Headers: make(map[string]string, len(d.Headers)+1),
	}
	if m.Topic == "" {
		m.Topic = l.config.Queue
	}
	for name, value := range d.Headers {
		text, ok := value.(string)
		if !ok {
			text = fmt.Sprint(value)
		}
		switch name {
		case keyHeader:
			m.Key = text
		case enqueuedAtHeader:
			m.EnqueuedAt = timeOr(text, m.EnqueuedAt)
		default:
			m.Headers[name] = text
		}
	}
	if d.ContentType != "" {
		m.Headers[contentTypeHeader] = d.ContentType
	}
	switch {
	case l.config.IDHeader != "":
		m.ID = m.Headers[l.config.IDHeader]
	case m.ID == "":
		m.ID = m.Headers[eventIDHeader]
	}
	if m.Key == "" {
		m.Key = m.Headers[eventKeyHeader]
	}
	m.EnqueuedAt = timeOr(m.Headers[eventTimeHeader], m.EnqueuedAt)
	return m
}

// timeOr returns the time that text says, or other where it says none.
func timeOr(text string, other time.Time) time.Time {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at
	}
	return other
}
