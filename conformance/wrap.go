package conformance

import (
	"context"
	"errors"

	"github.com/lockstep-go/lockstep/core"
)

// publishFunc does Publish's work with the broker that is wrapped.
type publishFunc func(ctx context.Context, inner core.Broker, msgs []core.Message) error

// wrap returns a broker that publishes by publish, and has broker's abilities. The brokers that a core.TermBroker makes
// for its terms are wrapped, too.
func wrap(broker core.Broker, publish publishFunc) core.Broker {
	w := wrapper{broker, publish}
	// Not core.Ability: what hides that it has terms inside has to be refused by the relay, and not to be passed over.
	if terms, ok := broker.(core.TermBroker); ok {
		return termWrapper{w, terms}
	}
	return w
}

type wrapper struct {
	broker  core.Broker
	publish publishFunc
}

func (w wrapper) Unwrap() core.Broker { return w.broker }

func (w wrapper) Publish(ctx context.Context, msgs []core.Message) error {
	return w.publish(ctx, w.broker, msgs)
}

type termWrapper struct {
	wrapper
	terms core.TermBroker
}

func (w termWrapper) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	broker, err := w.terms.ForTerm(ctx, term)
	if err != nil {
		return nil, err
	}
	return wrap(broker, w.publish), nil
}

// publishSome passes on the messages for which refuse returns nil, and that are not of the key of an earlier refused
// one of the call. What refuse returns is the result of the others.
func publishSome(ctx context.Context, broker core.Broker, msgs []core.Message, refuse func(i int) error) error {
	results := make([]error, len(msgs))
	var passed []core.Message
	var places []int
	held := map[topicKey]bool{}
	failed := false
	for i := range msgs {
		key := keyOf(&msgs[i])
		if held[key] {
			results[i] = core.ErrNotAttempted
			continue
		}
		if results[i] = refuse(i); results[i] != nil {
			failed, held[key] = true, msgs[i].Key != ""
			continue
		}
		passed, places = append(passed, msgs[i]), append(places, i)
	}
	if !failed {
		return broker.Publish(ctx, msgs)
	}
	if len(passed) > 0 {
		err := broker.Publish(ctx, passed)
		var batch *core.BatchError
		if err != nil && (!errors.As(err, &batch) || len(batch.Results) != len(passed)) {
			return err // the fate of all that was passed on is unknown, and one error cannot say so of some
		}
		if batch != nil {
			for k, result := range batch.Results {
				results[places[k]] = result
			}
		}
	}
	return &core.BatchError{Results: results}
}
