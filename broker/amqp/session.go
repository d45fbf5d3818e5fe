package amqp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// window is the most messages that a channel has sent and not seen confirmed. RabbitMQ confirms many at once.
	window = 1000

	// closeWithin bounds a graceful end of a connection.
	closeWithin = 2 * time.Second
)

// session is a connection and its channel. One call at a time uses it. It never reconnects.
type session struct {
	broker *Broker
	socket *socket
	conn   *amqp091.Connection
	// alarmed has a token after the broker has blocked the connection.
	alarmed chan struct{}

	mu      sync.Mutex
	blocked bool
	retired bool // nobody uses it again

	channel *channel // nil after an exception
}

// channel is a channel in confirm mode.
type channel struct {
	*amqp091.Channel
	// returns has room for a return of every message of a window: a full one makes amqp091 drop returns, and a message
	// that was dropped with its return is confirmed like any other. Its reader is whoever reads the confirms, because a
	// message's return stands in it before the confirm is seen.
	returns chan amqp091.Return
	// closed tells why the channel has ended, before its confirms end.
	closed chan *amqp091.Error
}

// connect connects to the first node that answers, beginning with the one that did last.
func (b *Broker) connect(ctx context.Context) (*session, error) {
	first := int(b.answering.Load())
	var failures []error
	for i := range b.nodes {
		at := (first + i) % len(b.nodes)
		s, err := b.connectTo(ctx, b.nodes[at])
		if err == nil {
			b.answering.Store(int64(at))
			return s, nil
		}
		failures = append(failures, failure(core.ErrUnavailable, "connect to "+b.nodes[at].place, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}

// connectTo opens a session, its channel included, within the node's time-out.
func (b *Broker) connectTo(ctx context.Context, n node) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, n.timeout)
	defer cancel()
	s := &session{broker: b, alarmed: make(chan struct{}, 1)}
	stop := func() bool { return true }
	config := amqp091.Config{
		Properties: amqp091.Table{"product": "lockstep", "connection_name": "lockstep"},
		Dial: func(network, address string) (conn net.Conn, err error) {
			s.socket, err = b.dial(ctx, network, address, n.timeout)
			if err == nil {
				stop = context.AfterFunc(ctx, s.kill)
			}
			return s.socket, err
		},
	}
	if b.config.TLS != nil {
		config.TLSClientConfig = b.config.TLS.Clone() // amqp091 writes the host's name into it
	}
	err := b.shakeHands(s, n, config)
	if err == nil {
		err = s.openChannel()
	}
	if !stop() {
		err = context.Cause(ctx) // what ended the connection
	}
	if err != nil {
		if s.socket != nil {
			s.kill()
		}
		return nil, err
	}
	return s, nil
}

func (b *Broker) shakeHands(s *session, n node, config amqp091.Config) (err error) {
	if s.conn, err = amqp091.DialConfig(n.url, config); err != nil {
		return err
	}
	return b.admit(s, s.conn.NotifyBlocked(make(chan amqp091.Blocking, 4)))
}

// openChannel opens a channel in confirm mode.
func (s *session) openChannel() error {
	opened, err := s.conn.Channel()
	if err != nil {
		return fmt.Errorf("open a channel: %w", err)
	}
	c := &channel{
		Channel: opened,
		returns: opened.NotifyReturn(make(chan amqp091.Return, window)),
		closed:  opened.NotifyClose(make(chan *amqp091.Error, 1)),
	}
	if err := opened.Confirm(false); err != nil {
		return fmt.Errorf("turn on confirms: %w", err)
	}
	s.channel = c
	return nil
}

// watch follows whether the broker blocks the connection, until the connection ends.
func (s *session) watch(blockings <-chan amqp091.Blocking) {
	for b := range blockings {
		s.setBlocked(b.Active, b.Reason)
	}
	s.setBlocked(false, "")
	s.broker.forget(s)
}

func (s *session) setBlocked(blocked bool, reason string) {
	s.mu.Lock()
	changed := s.blocked != blocked
	s.blocked = blocked
	retired := s.retired
	s.mu.Unlock()
	if changed && blocked {
		s.broker.blocked(reason)
		select {
		case s.alarmed <- struct{}{}:
		default:
		}
	} else if changed {
		s.broker.unblocked()
	}
	if retired && !blocked {
		s.close()
	}
}

func (s *session) isBlocked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked
}

// retire ends a session that nobody uses again. One that is blocked ends when it is unblocked: it is how we learn that
// the alarm is over. Were it closed at once, the next call would send its messages into the same silence, over a
// connection of its own.
func (s *session) retire() {
	s.mu.Lock()
	s.retired = true
	blocked := s.blocked
	s.mu.Unlock()
	if !blocked {
		s.close()
	}
}

// kill ends the session at once, whatever anybody waits for on it.
func (s *session) kill() { s.socket.Close() }

// close ends the session gracefully, or at once where the broker does not answer.
func (s *session) close() {
	if err := s.conn.CloseDeadline(time.Now().Add(closeWithin)); err != nil {
		s.kill()
	}
}
