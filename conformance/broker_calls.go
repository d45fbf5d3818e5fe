package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

// checkConcurrentCalls publishes as lanes do: several calls at the same time, of few messages and of many, no key in two.
func checkConcurrentCalls(ctx context.Context, f BrokerFixture) error {
	const callers, calls = 8, 10
	keys := 0
	var answers []<-chan error
	for caller := range callers {
		first, count := keys, 1+caller*caller%10
		keys += count
		answers = append(answers, guarded(func() error {
			for n := range calls {
				var msgs []core.Message
				for k := range count {
					msgs = append(msgs, numbered(first+k, n, 100*n))
				}
				if err := f.publish(ctx, msgs...); err != nil {
					return fmt.Errorf("call %d of caller %d, while others publish other keys: %w", n+1, caller+1, err)
				}
			}
			return nil
		}))
	}
	var errs []error
	for _, answer := range answers {
		errs = append(errs, <-answer)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return f.expectOrder(ctx, keys, calls)
}

// checkSeveralTopics publishes the same keys to two topics, in the same calls.
func checkSeveralTopics(ctx context.Context, f BrokerFixture) error {
	const keys, calls = 3, 10
	other := f.other()
	var here, there []string
	for n := range calls {
		var msgs []core.Message
		for k := range keys {
			m := numbered(k, n, 0)
			here = append(here, m.ID)
			m.Topic = f.Topic
			o := numbered(k, n, 0)
			o.ID = "other/" + o.ID
			o.Topic = other.Topic
			there = append(there, o.ID)
			if (n+k)%2 == 0 {
				m, o = o, m
			}
			msgs = append(msgs, m, o)
		}
		if err := f.Broker.Publish(ctx, msgs); err != nil {
			return err
		}
	}
	for _, topic := range []struct {
		what string
		f    BrokerFixture
		ids  []string
	}{{"Topic", f, here}, {"OtherTopic", other, there}} {
		stored, err := topic.f.exactly(ctx, topic.ids)
		if err == nil {
			err = inOrder(stored, keys)
		}
		if err != nil {
			return fmt.Errorf("the fixture's %s: %w", topic.what, err)
		}
	}
	return nil
}

// checkBrokerRestart kills the message system right after it confirmed.
func checkBrokerRestart(ctx context.Context, f BrokerFixture) error {
	const keys, calls = 10, 5
	var claimed []string
	for n := range calls {
		var msgs []core.Message
		for k := range keys {
			msgs = append(msgs, numbered(k, n, 1000))
		}
		if err := f.publish(ctx, msgs...); err != nil {
			return err
		}
		claimed = append(claimed, idsOf(msgs)...)
	}
	if err := f.Restart(); err != nil {
		return fmt.Errorf("restart the message system: %w", err)
	}
	after, err := f.again(ctx, "after the restart", func() []core.Message { return []core.Message{{ID: "after", Key: "after"}} })
	if err != nil {
		return err
	}
	return f.find(ctx, append(claimed, "after"), len(claimed)+after)
}
