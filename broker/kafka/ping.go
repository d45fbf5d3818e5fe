package kafka

import (
	"context"
	"fmt"
	"net"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/anyone"
)

var (
	_ core.Pinger = (*Broker)(nil)
	_ core.Pinger = (*termBroker)(nil)
)

// Ping implements [core.Pinger]: it logs in at each of the bootstrap servers, at the same time and over new connections. One
// answer is enough. The first after failures has the connections closed that are idle: they may be dead, and nobody would notice
// before a request's time is over.
func (b *Broker) Ping(ctx context.Context) error {
	err := anyone.Answers(ctx, len(b.bootstrap), func(ctx context.Context, i int) error { return b.pingServer(ctx, b.bootstrap[i]) })
	if err != nil {
		b.unreachable.Store(true)
		return failure(core.ErrUnavailable, "ping", err)
	}
	if b.unreachable.Swap(false) {
		b.transport.CloseIdleConnections()
	}
	return nil
}

// pingServer asks one server, until ctx is done.
func (b *Broker) pingServer(ctx context.Context, address string) error {
	dialer := kafkago.Dialer{
		ClientID: b.transport.ClientID, TLS: b.transport.TLS, SASLMechanism: b.transport.SASL,
		DialFunc: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := b.transport.Dial(ctx, network, address)
			if err == nil {
				context.AfterFunc(ctx, func() { conn.Close() }) // kafka-go does not mind ctx while it logs in
			}
			return conn, err
		},
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", address, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	if _, err := conn.ApiVersions(); err != nil {
		return fmt.Errorf("ask %s: %w", address, err)
	}
	return nil
}

// Ping implements [core.Pinger], as [Broker.Ping] does.
func (t *termBroker) Ping(ctx context.Context) error { return t.broker.Ping(ctx) }
