package amqp

import (
	"context"
	"maps"
	"net"
	"slices"
	"time"
)

// Wrap puts wrap between b's connections from now on and the network.
func (b *Broker) Wrap(wrap func(net.Conn) net.Conn) {
	b.dial = func(ctx context.Context, network, address string, timeout time.Duration) (*socket, error) {
		s, err := dialSocket(ctx, network, address, timeout)
		if err == nil {
			s.Conn = wrap(s.Conn)
		}
		return s, err
	}
}

// Alarm tells b's connections what RabbitMQ says where it blocks its publishers, and where that is over.
func (b *Broker) Alarm(active bool) {
	b.mu.Lock()
	open := slices.Collect(maps.Keys(b.open))
	b.mu.Unlock()
	for _, s := range open {
		s.setBlocked(active, "a test")
	}
}
