package conformance

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pairBrokerMutants are wrong in what becomes of a message that is published.
var pairBrokerMutants = map[string]pairMutant{
	"loses with its server what it said it stored": {caught: "pair-inbox-restart", says: "orders were committed, and",
		harm: func(p *pair, _ *Memory, r *Recorder) {
			up := p.broker.Restart
			p.broker.Restart = func() error {
				r.mu.Lock()
				r.stored = r.stored[:len(r.stored)-1]
				r.mu.Unlock()
				return up()
			}
		}},
	"overwrites what another process writes at the same time": {caught: "pair-takeover-overlap", says: "never arrived",
		broker: overwriting()},
	"takes its own impatience for a refusal": {caught: "pair-slow-broker", says: "attempts were counted",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			err := inner.Publish(ctx, msgs)
			if ctx.Err() != nil {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("took too long")}, len(msgs))}
			}
			return err
		}},
	"stores in memory what it says is on disk": {caught: "pair-broker-restart", says: "never arrived",
		harm: func(p *pair, _ *Memory, r *Recorder) {
			up := p.broker.Restart
			p.broker.Restart = func() error {
				r.mu.Lock()
				r.stored = r.stored[:len(r.stored)-3]
				r.mu.Unlock()
				return up()
			}
		}},
	"says that it stored what it only took in": {caught: "pair-broker-outage", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			_ = inner.Publish(ctx, msgs)
			return nil
		}},
	"takes silence for consent": {caught: "pair-broker-silent", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		}},
	"takes a broken connection for success": {caught: "pair-connections-cut", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); !errors.Is(err, core.ErrUncertain) {
				return err
			}
			return nil
		}},
	"counts an outage as refusals": {caught: "pair-broker-outage", says: "attempts were counted",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrUnavailable) {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("connection refused")}, len(msgs))}
			}
			return err
		}},
	"buries what an outage kept": {caught: "pair-broker-flapping", says: "buried",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrUnavailable) {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return err
		}},
	"sends the head of a batch, and says so of the whole": {caught: "pair-many-keys", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			return inner.Publish(ctx, msgs[:1])
		}},
	"sends a batch in another order": {caught: "pair-hot-key", says: "out of order",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			msgs = slices.Clone(msgs)
			slices.Reverse(msgs)
			return inner.Publish(ctx, msgs)
		}},
	"goes on behind a message that failed": {caught: "pair-connections-cut", says: "out of order", broker: goingOn(false)},
	"goes on behind a message that it refuses for good": {caught: "pair-poison", says: "2 events arrived that were never committed, or must not arrive",
		broker: goingOn(false)},
	"goes on behind what it refuses, and denies it": {caught: "pair-poison", says: "2 events arrived that were never committed, or must not arrive",
		broker: goingOn(true)},
	"loses the keys": {caught: "pair-atomic", says: "are not what was enqueued",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			msgs = copyMessages(msgs)
			for i := range msgs {
				msgs[i].Key = ""
			}
			return inner.Publish(ctx, msgs)
		}},
	"condemns a batch for one message": {caught: "pair-poison", says: "a dead letter: not within",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrPermanent) {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return err
		}},
	"says that poison is stored": {caught: "pair-poison", says: "a dead letter: not within",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); !errors.Is(err, core.ErrPermanent) {
				return err
			}
			return nil
		}},
	"sends each message twice": {caught: "pair-graceful-stop", says: "were sent twice",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			return errors.Join(inner.Publish(ctx, msgs), inner.Publish(ctx, msgs))
		}},
	"forgets its messages when it is stopped": {caught: "pair-relay-killed", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			go func() {
				pause(ctx, 5*time.Millisecond) // a client that sends in the background, and dies with its process
				if ctx.Err() == nil {
					_ = inner.Publish(ctx, msgs)
				}
			}()
			return nil
		}},
}

// goingOn is a broker that sends what stands in a call behind a message of its key that failed, and may say that it did not.
func goingOn(denied bool) publishFunc {
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		results, failed := make([]error, len(msgs)), map[string]bool{}
		for i := range msgs {
			err := inner.Publish(ctx, msgs[i:i+1])
			var batch *core.BatchError
			if errors.As(err, &batch) {
				err = batch.Results[0]
			}
			if denied && failed[msgs[i].Key] {
				err = core.ErrNotAttempted
			}
			results[i] = err
			failed[msgs[i].Key] = failed[msgs[i].Key] || err != nil
		}
		if !slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
			return nil
		}
		return &core.BatchError{Results: results}
	}
}

// overwriting loses a call that begins while another one is under way.
func overwriting() publishFunc {
	var calls atomic.Int64
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		defer calls.Add(-1)
		if calls.Add(1) > 1 {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // the bubble's clock: the window of the race that this is about
		return inner.Publish(ctx, msgs)
	}
}
