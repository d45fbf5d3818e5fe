package amqp

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

// Check reports what keeps messages for topics from being published: that no node can be reached, that the broker has
// blocked its publishers, and each exchange that does not exist, or on which the user has no permission at all. It does
// not see bindings. Nothing is declared or changed. Every error is a [core.ErrUnavailable].
func (b *Broker) Check(ctx context.Context, topics ...string) error {
	s, err := b.take(ctx)
	if err != nil {
		return err
	}
	stopKilling := context.AfterFunc(ctx, s.kill)
	if err := s.answers(); err != nil { // it may be a session from before, which nobody shall have again
		stopKilling()
		s.kill()
		if ctx.Err() != nil {
			err = context.Cause(ctx) // and not that we have closed it for that
		}
		return failure(core.ErrUnavailable, "ask whether it answers", err)
	}
	var faults []error
	for _, topic := range topics {
		if exchange(topic) == "" {
			continue
		}
		if err := s.checkExchange(topic); err != nil {
			faults = append(faults, failure(core.ErrUnavailable, fmt.Sprintf("check exchange %q", topic), err))
		}
	}
	if stopKilling() {
		b.keep(s)
	}
	return errors.Join(faults...)
}

// answers has the broker answer something, for which no permission is needed.
func (s *session) answers() error {
	channel, err := s.conn.Channel()
	if err != nil {
		return err
	}
	return channel.Close()
}

// checkExchange uses a channel of its own: RabbitMQ closes it where there is no such exchange.
func (s *session) checkExchange(name string) error {
	probe, err := s.conn.Channel()
	if err != nil {
		return err
	}
	if err := probe.ExchangeDeclarePassive(name, "direct", true, false, false, false, nil); err != nil {
		return err
	}
	return probe.Close()
}
