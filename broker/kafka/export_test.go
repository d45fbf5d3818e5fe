package kafka

import (
	"context"
	"net"
)

// Dial makes the connections of b from now on.
func (b *Broker) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.transport.Dial = dial
}
