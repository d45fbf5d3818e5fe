package amqp

import (
	"context"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/anyone"
)

var (
	_ core.Pinger = (*Broker)(nil)
	_ core.Pinger = (*Pipelined)(nil)
)

// Ping implements [core.Pinger]: it opens a connection and a channel at each of the nodes, at the same time. One answer is enough.
// The first after failures ends the connections that are idle: they may be dead, which takes two heartbeats to notice.
func (b *Broker) Ping(ctx context.Context) error {
	err := anyone.Answers(ctx, len(b.nodes), func(ctx context.Context, i int) error {
		s, err := b.connectTo(ctx, b.nodes[i])
		if err != nil {
			return failure(core.ErrUnavailable, "ping "+b.nodes[i].place, err)
		}
		b.answering.Store(int64(i)) // so that what is published goes there at once
		b.running.Go(s.close)       // which may take seconds where it is away again
		return nil
	})
	if err != nil {
		b.unreachable.Store(true)
		return err
	}
	if b.unreachable.Swap(false) {
		b.dropIdle()
	}
	return nil
}

// dropIdle ends the sessions that nobody uses.
func (b *Broker) dropIdle() {
	b.mu.Lock()
	idle := b.idle
	b.idle = nil
	b.mu.Unlock()
	for _, s := range idle {
		s.kill()
	}
}
