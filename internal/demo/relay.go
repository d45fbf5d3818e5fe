package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
)

// relayPause is how long the relay rests between two looks at the outbox.
const relayPause = 10 * time.Millisecond

// runRelay carries events until standard input ends, and then what is left of them.
func runRelay(ctx context.Context, service service, dialect core.Dialect, publisher *publisher, deaths string) error {
	if service.relayDialect != nil {
		dialect = service.relayDialect(dialect)
	}
	broker := &mortalBroker{Broker: watermill.New(publisher), deaths: deaths}
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{})
	if err != nil {
		return err
	}
	untilStopped, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with its input
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	// A service calls relay.Run. That waits longer after each outage that follows hard on another, up to a second, and
	// here the outages come by the dozen.
	for {
		last := untilStopped.Err() != nil // known before the relay looks: what it finds then is all there is
		err := relay.RunOnce(ctx)
		if last {
			return err
		}
		select {
		case <-time.After(relayPause):
		case <-untilStopped.Done():
		}
	}
}

// mortalBroker kills the process after an event was stored and before the relay knows, for the orders that have a file
// in deaths. The file is removed first, so that it happens once.
type mortalBroker struct {
	core.Broker
	deaths string
}

// Publish sends an event that is to be fatal alone. Otherwise the number of re-deliveries would depend on how many
// events the relay happened to have in hand.
func (b *mortalBroker) Publish(ctx context.Context, msgs []core.Message) error {
	for i, m := range msgs {
		file := filepath.Join(b.deaths, m.Key)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if err := b.Broker.Publish(ctx, msgs[i:i+1]); err != nil {
			return fmt.Errorf("publish one of %d: %w", len(msgs), err)
		}
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove the death of %s: %w", m.Key, err)
		}
		die()
	}
	return b.Broker.Publish(ctx, msgs)
}
