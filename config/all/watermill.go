package all

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"sync"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"

	lockstepkafka "github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/broker/watermill/wmkafka"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

func openWatermillKafka(u *url.URL, log *slog.Logger) (core.Broker, error) {
	brokers, err := hosts(u, "9092")
	if err != nil {
		return nil, err
	}
	if err := parametersOf(u).err(); err != nil {
		return nil, err
	}
	if u.User != nil || u.Path != "" && u.Path != "/" {
		return nil, errors.New("has more than hosts: use kafka:// or kafka+tls://, or a registry of your own with a publisher of your own")
	}
	return watermillKafka{newLate(func() (core.Broker, io.Closer, error) { return makeWatermillKafka(brokers, log, nil) }), brokers, log}, nil
}

// watermillKafka is the broker, and what verify makes beside it.
type watermillKafka struct {
	*late
	brokers []string
	log     *slog.Logger
}

// Check connects, and asks Kafka anew each time: the client may be connected and its servers gone since, which it says only when
// something is sent. Nor does it say whether a topic is there.
func (b watermillKafka) Check(ctx context.Context, topics ...string) error {
	if err := b.late.Check(ctx, topics...); err != nil {
		return err
	}
	asked, err := lockstepkafka.Open(lockstepkafka.Config{Brokers: b.brokers})
	if err != nil {
		return err
	}
	if len(topics) == 0 {
		return errors.Join(asked.Ping(ctx), asked.Close())
	}
	return errors.Join(asked.Check(ctx, topics...), asked.Close())
}

// ExamineTopics implements [config.TopicExaminer]. The publisher asks for acks=all, as the adapter of Kafka does.
func (b watermillKafka) ExamineTopics(ctx context.Context, topics []config.WaitingTopic) ([]config.Finding, error) {
	return kafkaBroker{config: lockstepkafka.Config{Brokers: b.brokers}}.ExamineTopics(ctx, topics)
}

// saramaDialer makes connections in place of Sarama.
type saramaDialer func(network, address string) (net.Conn, error)

// Dial implements Sarama's interface for proxies.
func (d saramaDialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// makeWatermillKafka configures a publisher as the documentation of broker/watermill says. It dials, by dial unless that is
// nil.
func makeWatermillKafka(brokers []string, log *slog.Logger, dial saramaDialer) (core.Broker, io.Closer, error) {
	c := wmkafka.PublisherConfig(brokers)
	if dial != nil {
		c.OverwriteSaramaConfig.Net.Proxy.Enable, c.OverwriteSaramaConfig.Net.Proxy.Dialer = true, dial
	}
	publisher, err := kafka.NewPublisher(c, wmill.NewSlogLogger(log))
	if err != nil {
		return nil, nil, err
	}
	broker, err := watermill.New(wmkafka.WithClasses(publisher))
	if err != nil {
		return nil, nil, errors.Join(err, publisher.Close())
	}
	return broker, publisher, nil
}

// late is a broker whose client dials when it is made: so it is made at the first call, and again while that fails, one
// attempt at a time.
type late struct {
	open func() (core.Broker, io.Closer, error)

	mu      sync.Mutex
	attempt *attempt
	closed  bool
}

type attempt struct {
	done   chan struct{}
	broker core.Broker
	closer io.Closer
	err    error
}

func newLate(open func() (core.Broker, io.Closer, error)) *late { return &late{open: open} }

// Publish implements [core.Broker].
func (l *late) Publish(ctx context.Context, msgs []core.Message) error {
	broker, err := l.broker(ctx)
	if err != nil {
		err = fmt.Errorf("%w: %w", core.ErrUnavailable, err)
		results := make([]error, len(msgs))
		for i := range results {
			results[i] = err
		}
		return &core.BatchError{Results: results}
	}
	return broker.Publish(ctx, msgs)
}

// Check connects, once.
func (l *late) Check(ctx context.Context, _ ...string) error {
	_, err := l.broker(ctx)
	return err
}

func (l *late) broker(ctx context.Context) (core.Broker, error) {
	a, err := l.current()
	if err != nil {
		return nil, err
	}
	select {
	case <-a.done:
		return a.broker, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("connect: %w", context.Cause(ctx))
	}
}

// current returns the attempt that succeeded or is under way, or begins one.
func (l *late) current() (*attempt, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errors.New("the broker is closed")
	}
	if l.attempt != nil {
		select {
		case <-l.attempt.done:
			if l.attempt.err == nil {
				return l.attempt, nil
			}
		default:
			return l.attempt, nil
		}
	}
	a := &attempt{done: make(chan struct{})}
	l.attempt = a
	go func() { // Close waits for it
		defer close(a.done)
		a.broker, a.closer, a.err = l.open()
	}()
	return a, nil
}

// Close waits for an attempt that is under way, and closes the client.
func (l *late) Close() error {
	l.mu.Lock()
	l.closed = true
	a := l.attempt
	l.mu.Unlock()
	if a == nil {
		return nil
	}
	<-a.done
	if a.closer == nil {
		return nil
	}
	return a.closer.Close()
}
