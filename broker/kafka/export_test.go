package kafka

import (
	"context"
	"net"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// Dial makes the connections of b from now on.
func (b *Broker) Dial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.transport.Dial = dial
}

// DoubtPatience is how long a broker is patient that nobody has told otherwise.
const DoubtPatience = doubtPatience

// BePatient sets how long b sends a batch again whose fate is unknown.
func (b *Broker) BePatient(patience time.Duration) { b.patience = patience }

// Age makes the session of a term's broker older by d.
func Age(b core.Broker, d time.Duration) {
	p := b.(*termBroker).producer
	p.mu.Lock()
	defer p.mu.Unlock()
	p.renewed = p.renewed.Add(-d)
}

// SequenceAfter is the number of the batch that follows one with a number and so many records.
func SequenceAfter(sequence int32, records int) int32 {
	return number{session{1, 0}, sequence}.after(records).sequence
}
