package conformance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// callMutants are brokers that go wrong in what is special about a call: its keys, its topics, its neighbours, and what
// becomes of it when the server is killed.
var callMutants = map[string]brokerMutant{
	"goes on behind a message that was refused for good": {[]string{"keys-behind-a-poison"}, `message "behind 1" is stored, and its result is no error`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return oneByOne(ctx, b, msgs, nil)
		}},
	"says that a message behind a refused one was not attempted, and stores it": {[]string{"keys-behind-a-poison"}, `message "behind 1" is stored, and its result is not attempted`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return oneByOne(ctx, b, msgs, func(results []error, i int) {
				for j := range i {
					if results[j] != nil && msgs[j].Key == msgs[i].Key {
						results[i] = core.ErrNotAttempted
					}
				}
			})
		}},
	"condemns what it did not attempt": {[]string{"keys-behind-a-poison"}, "want ErrNotAttempted",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			var batch *core.BatchError
			if errors.As(err, &batch) {
				for i, result := range batch.Results {
					if errors.Is(result, core.ErrNotAttempted) {
						batch.Results[i] = core.ErrPermanent
					}
				}
			}
			return err
		}},
	"gives up all that is behind a refused message, and has stored it": {[]string{"keys-behind-a-poison"}, `message "beside 1" is stored, and its result is not attempted`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			var batch *core.BatchError
			if errors.As(err, &batch) {
				for i, result := range batch.Results {
					if result == nil {
						batch.Results[i] = core.ErrNotAttempted
					}
				}
			}
			return err
		}},
	"sends a call to the topic of its first message": {[]string{"several-topics"}, "which the check did not publish to it",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			msgs = slices.Clone(msgs)
			for i := range msgs {
				msgs[i].Topic = msgs[0].Topic
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"knows the messages of other topics by the key, and keeps one": {[]string{"several-topics"}, "said to be stored, and are not among",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			var some []core.Message
			for _, m := range msgs {
				if !slices.ContainsFunc(some, func(s core.Message) bool { return s.Key == m.Key }) {
					some = append(some, m)
				}
			}
			return b.Broker.Publish(ctx, some)
		}},
	"has one buffer for all calls": {[]string{"concurrent-calls"}, "stored twice",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			b.keep(msgs)
			time.Sleep(time.Millisecond) // the bubble's clock: the other calls begin
			return b.Broker.Publish(ctx, b.keep(nil))
		}},
	"refuses a call while another one runs": {[]string{"concurrent-calls"}, "while others publish",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if !b.mu.TryLock() {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("busy")}, len(msgs))}
			}
			defer b.mu.Unlock()
			time.Sleep(time.Millisecond) // the bubble's clock
			return b.Broker.Publish(ctx, msgs)
		}},
	"stores messages twice": {[]string{"nil-is-stored"}, `stored twice: "plain", "least"`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return errors.Join(b.Broker.Publish(ctx, msgs[:2]), b.Broker.Publish(ctx, msgs))
		}},
	"says that all is stored and loses one in the middle": {[]string{"key-order"}, `"19/49" were said to be stored`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if msgs[len(msgs)-1].ID == "19/49" {
				msgs = msgs[:len(msgs)-1]
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"confirms what it has not written": {[]string{"broker-restart"}, `"9/4" were said to be stored`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if behind := b.keep(copyMessages(msgs)); len(behind) > 0 {
				_ = b.Broker.Publish(ctx, behind) // what is not written when the server is killed is gone
			}
			if msgs[0].ID == "after" {
				return b.Broker.Publish(ctx, msgs)
			}
			return nil
		}},
	"does not come back after a restart": {[]string{"broker-restart"}, "after the restart",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if msgs[0].ID == "after" {
				return errors.New("the connection is closed")
			}
			return b.Broker.Publish(ctx, msgs)
		}},
}

// keep swaps what the broker remembers.
func (b *brokenBroker) keep(msgs []core.Message) (before []core.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before = b.kept
	if msgs != nil {
		b.kept = msgs
	}
	return before
}

// oneByOne publishes each message in a call of its own, whatever came of those before it. tell changes what is said.
func oneByOne(ctx context.Context, b *brokenBroker, msgs []core.Message, tell func(results []error, i int)) error {
	results := make([]error, len(msgs))
	for i := range msgs {
		var batch *core.BatchError
		if err := b.Broker.Publish(ctx, msgs[i:i+1]); errors.As(err, &batch) {
			results[i] = batch.Results[0]
		}
		if tell != nil {
			tell(results, i)
		}
	}
	if !slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
		return nil
	}
	return &core.BatchError{Results: results}
}
