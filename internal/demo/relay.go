package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/broker/watermill"
	"github.com/lockstep-go/lockstep/core"
)

// runRelay carries events until standard input ends, and then what is left of them.
func runRelay(ctx context.Context, service service, dialect core.Dialect, publisher *publisher, deaths string) error {
	if service.relayDialect != nil {
		dialect = service.relayDialect(dialect)
	}
	if err := releaseLease(ctx, dialect); err != nil {
		return err
	}
	through, err := watermill.New(publisher)
	if err != nil {
		return err
	}
	mortal := newMortalBroker(through, deaths)
	var broker core.Broker = mortal
	if service.relayBroker != nil {
		broker = service.relayBroker(broker)
	}
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{
		PollInterval: 10 * time.Millisecond, Hooks: core.Hooks{Acknowledged: mortal.acknowledged},
	})
	if err != nil {
		return err
	}
	untilStopped, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // ends with its input
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := relay.Run(untilStopped); err != nil {
		return err
	}
	for {
		held, err := relay.RunOnce(ctx)
		if err != nil || len(held) == 0 {
			return err
		}
	}
}

// releaseLease gives up the lease of the relay that was killed before this one began. A relay cannot know that another
// one is dead, and waits for the lease's end, 5 s by default. This one knows: its parent has waited for the other. With
// relays that die by the dozen, nobody wants to watch them wait.
func releaseLease(ctx context.Context, dialect core.Dialect) (err error) {
	session, err := dialect.Open(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, session.Close()) }()
	lease, err := session.ReadLease(ctx)
	if err != nil {
		return err
	}
	return session.ReleaseLease(ctx, lease.Holder, lease.Epoch)
}

// mortalBroker kills the process after an event was stored and before the relay knows, for the orders that have a file
// in deaths. The file is removed first, so that it happens once.
//
// Only the fatal event is to be delivered again, or the number of re-deliveries would depend on what the relay happened
// to have in hand: so there is one call at a time, the fatal event travels alone, and only when everything before it has
// left the outbox.
type mortalBroker struct {
	broker core.Broker
	deaths string

	calls sync.Mutex // held during a call

	mu       sync.Mutex
	settled  *sync.Cond
	inOutbox map[string]bool // stored, and not acknowledged
}

func newMortalBroker(broker core.Broker, deaths string) *mortalBroker {
	b := &mortalBroker{broker: broker, deaths: deaths, inOutbox: map[string]bool{}}
	b.settled = sync.NewCond(&b.mu)
	return b
}

func (b *mortalBroker) Publish(ctx context.Context, msgs []core.Message) error {
	b.calls.Lock()
	defer b.calls.Unlock()
	for i, m := range msgs {
		file := filepath.Join(b.deaths, m.Key)
		if _, err := os.Stat(file); err != nil {
			continue
		}
		if err := b.awaitSettled(ctx); err != nil {
			return err
		}
		if err := b.broker.Publish(ctx, msgs[i:i+1]); err != nil {
			return fmt.Errorf("publish one of %d: %w", len(msgs), err)
		}
		if err := os.Remove(file); err != nil {
			return fmt.Errorf("remove the death of %s: %w", m.Key, err)
		}
		die()
	}
	err := b.broker.Publish(ctx, msgs)
	b.stored(msgs, err)
	return err
}

// stored notes which of msgs the broker has.
func (b *mortalBroker) stored(msgs []core.Message, err error) {
	var batch *core.BatchError
	if err != nil && !errors.As(err, &batch) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, m := range msgs {
		if batch == nil || batch.Results[i] == nil {
			b.inOutbox[m.ID] = true
		}
	}
}

func (b *mortalBroker) acknowledged(refs []core.Ref) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, ref := range refs {
		delete(b.inOutbox, ref.ID)
	}
	b.settled.Broadcast()
}

// awaitSettled waits until everything that is stored has left the outbox.
func (b *mortalBroker) awaitSettled(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.settled.Broadcast()
	})()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.inOutbox) > 0 && ctx.Err() == nil {
		b.settled.Wait()
	}
	return ctx.Err()
}
