package conformance

import (
	"context"
	"fmt"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

// verdicts is what a broker said of messages in calls that nobody refused: their contexts ended, or the message system was
// away, silent or cut off.
type verdicts struct {
	published int
	keys      []string
	stored    []string         // ids that were said to be stored
	denied    map[string]error // results that said that the message is not stored, by id
}

// hear takes in the results of a call.
func (v *verdicts) hear(when string, msgs []core.Message, results []error) error {
	v.published += len(msgs)
	for i, m := range msgs {
		if !slices.Contains(v.keys, m.Key) {
			v.keys = append(v.keys, m.Key)
		}
		switch core.ClassOf(results[i]) {
		case "stored":
			v.stored = append(v.stored, m.ID)
		case "unavailable", "not attempted":
			if v.denied == nil {
				v.denied = map[string]error{}
			}
			v.denied[m.ID] = results[i]
		}
	}
	return firstError(unrefused(when, msgs, results), holes(msgs, results))
}

// unrefused wants that no message is said to be refused, where the message system has refused none.
func unrefused(when string, msgs []core.Message, results []error) error {
	for i, m := range msgs {
		switch core.ClassOf(results[i]) {
		case "refused":
			return fmt.Errorf("%s, and message %q is said to be refused, which counts as an attempt: %w", when, m.ID, results[i])
		case "permanent":
			return fmt.Errorf("%s, and message %q is said to be refused for good, which makes it a dead letter: %w", when, m.ID, results[i])
		case "fenced":
			return fmt.Errorf("%s, and message %q is said to be a later owner's, which gives up the lease: %w", when, m.ID, results[i])
		}
	}
	return nil
}

// again publishes what of makes until the broker says that all of it is stored, and returns how many messages that took. They
// are made anew each time: a broker may go on reading those of a call that failed.
func (f BrokerFixture) again(ctx context.Context, when string, of func() []core.Message) (published int, err error) {
	err = eventually(ctx, "a message that is published "+when, func() (bool, error) {
		again, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		msgs := of()
		published += len(msgs)
		results, err := f.publishEach(again, msgs...)
		if err == nil {
			err = unrefused("it was sent "+when, msgs, results)
		}
		return err == nil && !slices.ContainsFunc(results, func(err error) bool { return err != nil }), err
	})
	return published, err
}

// last makes one more message of each key. What was stored of a key before stands before it.
func (v *verdicts) last() []core.Message {
	var msgs []core.Message
	for _, key := range v.keys {
		msgs = append(msgs, core.Message{ID: "last of " + key, Key: key})
	}
	return msgs
}

// hold reads the topic as far as the last message of each key, and wants to find there what was said to be stored, and nothing
// that was said not to be. There are most messages at most.
func (v *verdicts) hold(ctx context.Context, f BrokerFixture, most int, others ...string) error {
	stored, err := f.search(ctx, slices.Concat(v.stored, others, idsOf(v.last())), most)
	if err != nil {
		return err
	}
	return v.keep(stored)
}

// keep looks among the stored messages for what was said not to be.
func (v *verdicts) keep(stored []core.Message) error {
	for _, m := range stored {
		if result, ok := v.denied[m.ID]; ok {
			return fmt.Errorf("message %q is stored, and was said not to be: %w", m.ID, result)
		}
	}
	return nil
}
