package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// removeWithin bounds the removal of one thing.
const removeWithin = 30 * time.Second

// scratch makes throw-away outboxes and topics, and knows which are still there.
type scratch struct {
	database config.ScratchDialect
	brokers  map[string]config.ScratchBroker
	// databaseHarm and brokerHarm say where connections can be led to where harm is done to them.
	databaseHarm bool
	brokerHarm   map[string]*bool

	mu   sync.Mutex
	left []leftover
}

// leftover is what could not be removed at once.
type leftover struct {
	where  string
	remove func(ctx context.Context) error
}

// try makes, uses and removes something with *harm set, so that its connections are led through where they can be, and
// otherwise without. In the end *harm says whether they are.
func try(harm *bool, something func() (led bool, err error)) (err error) {
	*harm = true
	led, err := something()
	*harm = led && err == nil
	if err != nil {
		_, err = something()
	}
	return err
}

func (b *scratch) tryOutbox(ctx context.Context) (led bool, err error) {
	f, harm, err := b.outbox(ctx)
	if err != nil {
		return false, err
	}
	session, err := f.Dialect.Open(ctx)
	if err == nil {
		err = session.Close()
	}
	if err == nil {
		err = f.DB.PingContext(ctx)
	}
	return harm.passed(), errors.Join(err, f.Close())
}

func (b *scratch) tryTopic(ctx context.Context, name string) (led bool, err error) {
	f, harm, err := b.topic(ctx, name, false)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, removeWithin)
	defer cancel()
	err = f.Broker.Publish(ctx, []core.Message{{ID: core.NewID(), Topic: f.Topic, Payload: []byte("lockstep verify")}})
	if err == nil {
		_, err = f.Read(ctx, 1)
	}
	return harm.passed(), errors.Join(err, f.Close())
}

// outbox makes an outbox for one check, and what does harm to it.
func (b *scratch) outbox(ctx context.Context) (conformance.DialectFixture, *harm, error) {
	harm, through := harmOf(b.databaseHarm)
	s, err := b.database.Scratch(ctx, scratchName(), through)
	if err != nil {
		return conformance.DialectFixture{}, nil, errors.Join(err, harm.close())
	}
	f := conformance.SQLFixture(s.Dialect, s.DB)
	f.Archiving, f.Elsewhere, f.ConcurrentWriters, f.Table, f.Outage = s.Archiving, s.Elsewhere, s.ConcurrentWriters, s.Table, s.Outage
	f.NoServer = s.Outage != nil         // an outage that is not one of connections
	if through != nil && harm.passed() { // a database in a file has no connections
		f.Outage, f.Cut, f.LoseAnswers = harm.outage, harm.cut, harm.loseAnswers
	}
	f.Close = func() error {
		b.remove(ctx, s.Where, s.Remove)
		return harm.close()
	}
	return f, harm, nil
}

// topic makes a topic for one check, or two of them, and what does harm to it.
func (b *scratch) topic(ctx context.Context, name string, two bool) (conformance.BrokerFixture, *harm, error) {
	harm, through := harmOf(*b.brokerHarm[name])
	s, err := b.brokers[name].ScratchTopic(ctx, scratchName(), through)
	if err != nil {
		return conformance.BrokerFixture{}, nil, errors.Join(err, harm.close())
	}
	f := conformance.BrokerFixture{Broker: s.Broker, Elsewhere: s.Elsewhere, Topic: s.Topic, Read: reader(s.Stored), Stored: s.Stored, Poison: s.Poison}
	if through != nil {
		f.Outage, f.Cut, f.Delay, f.Freeze = harm.outage, harm.cut, harm.delay, harm.freeze
	}
	f.Close = func() error {
		b.remove(ctx, s.Where, s.Remove)
		return harm.close()
	}
	if two && s.Other != nil {
		topic, stored, err := s.Other(ctx)
		if err != nil {
			return conformance.BrokerFixture{}, nil, errors.Join(err, f.Close())
		}
		f.OtherTopic, f.ReadOther = topic, reader(stored)
	}
	return f, harm, nil
}

// reader waits until enough is stored.
func reader(stored func(ctx context.Context) ([]core.Message, error)) func(ctx context.Context, n int) ([]core.Message, error) {
	return func(ctx context.Context, n int) ([]core.Message, error) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			msgs, err := stored(ctx)
			if err != nil {
				return nil, err
			}
			if len(msgs) >= n {
				return msgs[:n], nil
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("%d of %d messages are stored: %w", len(msgs), n, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
}

// remove removes something now, however the check ended, or keeps it for clear.
func (b *scratch) remove(ctx context.Context, where string, remove func(ctx context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeWithin)
	defer cancel()
	if remove(ctx) != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.left = append(b.left, leftover{where, remove})
	}
}

// clear tries once more to remove what could not be removed, and returns what still cannot.
func (b *scratch) clear(ctx context.Context) (left []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.left {
		func() {
			ctx, cancel := context.WithTimeout(ctx, removeWithin)
			defer cancel()
			if err := l.remove(ctx); err != nil {
				left = append(left, fmt.Sprintf("%s: %v", l.where, err))
			}
		}()
	}
	b.left = nil
	return left
}
