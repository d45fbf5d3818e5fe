package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

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

// checkBehindAPoison has a message refused for good amidst others of its key, and reads what is stored of them.
func checkBehindAPoison(ctx context.Context, f BrokerFixture) error {
	of := func(id, key string) core.Message { return core.Message{ID: id, Topic: f.Topic, Key: key} }
	msgs := []core.Message{of("beside 1", "other"), of("before", "k"), f.poisoned("k"), of("beside 2", "other"), of("behind 1", "k"),
		of("beside 3", "other"), of("behind 2", "k")}
	results, err := resultsOf(f.Broker.Publish(ctx, msgs), len(msgs))
	if err != nil {
		return err
	}
	// Each key's last one: when it is stored, so is what may be stored before it.
	last := []core.Message{of("last", "k"), of("last of the other key", "other")}
	if err := f.publish(ctx, last...); err != nil {
		return fmt.Errorf("the next call: %w", err)
	}
	want := idsOf(last)
	for i, m := range msgs {
		if results[i] == nil {
			want = append(want, m.ID)
		}
	}
	// Several times: who finds the guilty one by halves sends the others again.
	stored, err := f.search(ctx, want, 5*len(msgs))
	if err != nil {
		return err
	}
	for i, m := range msgs {
		there := slices.ContainsFunc(stored, func(s core.Message) bool { return s.ID == m.ID })
		behind := i > 2 && m.Key == "k"
		switch {
		case behind && there:
			return fmt.Errorf("message %q is stored, and its result is %w; the one before it of the same key is not stored: %w", m.ID, orNil(results[i]), orNil(results[2]))
		case i == 2 && !errors.Is(results[i], core.ErrPermanent):
			return fmt.Errorf("the result of a message that can never be stored is %w, want ErrPermanent", orNil(results[i]))
		case behind && !errors.Is(results[i], core.ErrNotAttempted):
			return fmt.Errorf("message %q stands behind one of its key that is not stored, and its result is %w, want ErrNotAttempted", m.ID, orNil(results[i]))
		case there && (errors.Is(results[i], core.ErrNotAttempted) || errors.Is(results[i], core.ErrPermanent)):
			return fmt.Errorf("message %q is stored, and its result is %w", m.ID, results[i])
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
	published := len(claimed)
	err := eventually(ctx, "a message that is published after the restart", func() (bool, error) {
		again, cancel := context.WithTimeout(ctx, soon)
		defer cancel()
		published++
		return f.publish(again, core.Message{ID: "after", Key: "after"}) == nil, nil
	})
	if err != nil {
		return err
	}
	return f.find(ctx, append(claimed, "after"), published)
}
