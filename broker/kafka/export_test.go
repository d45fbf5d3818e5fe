package kafka

import (
	"context"
	"net"
	"time"
)

// Dial makes the connections of b from now on.
func (b *Broker) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.transport.Dial = dial
}

// BePatient sets how long b sends a batch again whose fate is unknown.
func (b *Broker) BePatient(patience time.Duration) { b.patience = patience }
