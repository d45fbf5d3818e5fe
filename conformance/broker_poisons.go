package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

func checkPoison(ctx context.Context, f BrokerFixture) error {
	poison := f.poisoned("poison", "p")
	// Not through publish: the topic may be what is wrong with it.
	msgs := []core.Message{{ID: "a", Topic: f.Topic, Key: "a"}, poison, {ID: "b", Topic: f.Topic, Key: "b"}}
	results, err := resultsOf(f.Broker.Publish(ctx, msgs), len(msgs))
	if err != nil {
		return err
	}
	if !errors.Is(results[1], core.ErrPermanent) {
		return fmt.Errorf("the result of a message that can never be stored is %v, want ErrPermanent", results[1])
	}
	var good []string
	for i, id := range map[int]string{0: "a", 2: "b"} {
		if errors.Is(results[i], core.ErrPermanent) {
			return fmt.Errorf("the message beside one that can never be stored got %w", results[i])
		}
		if results[i] == nil {
			good = append(good, id)
		}
	}
	return f.find(ctx, good, 3)
}

// checkPoisonsInACall has several messages of several keys refused in a call: who finds one must not take the others for good
// ones, nor the good ones between them for bad.
func checkPoisonsInACall(ctx context.Context, f BrokerFixture) error {
	var msgs []core.Message
	bad := map[string]bool{}
	for i, poisoned := range []bool{false, true, false, true, true, false, true} {
		m := core.Message{ID: fmt.Sprintf("good %d", i), Topic: f.Topic, Key: fmt.Sprint("k", i)}
		if poisoned {
			m = f.poisoned(fmt.Sprintf("poison %d", i), m.Key)
			bad[m.ID] = true
		}
		msgs = append(msgs, m)
	}
	if err := f.judged(ctx, msgs, bad); err != nil {
		return err
	}
	return f.holdsOnly(ctx, msgs, bad)
}

// checkResultsByMessage has one message refused in a call for two topics. Each topic has as many messages, and the refused one is
// neither where it would be with one topic's results before the other's, nor the other way round.
func checkResultsByMessage(ctx context.Context, f BrokerFixture) error {
	other := f.other()
	var here, there, msgs []core.Message
	bad := map[string]bool{}
	for i := range 5 {
		key := fmt.Sprint("k", i)
		m := core.Message{ID: fmt.Sprintf("here %d", i), Topic: f.Topic, Key: key}
		if i == 2 {
			m = f.poisoned("poison", key)
			bad[m.ID] = true
		}
		o := core.Message{ID: fmt.Sprintf("there %d", i), Topic: other.Topic, Key: key}
		here, there, msgs = append(here, m), append(there, o), append(msgs, m, o)
	}
	if err := f.judged(ctx, msgs, bad); err != nil {
		return err
	}
	if err := f.holdsOnly(ctx, here, bad); err != nil {
		return fmt.Errorf("the fixture's Topic: %w", err)
	}
	if err := other.holdsOnly(ctx, there, bad); err != nil {
		return fmt.Errorf("the fixture's OtherTopic: %w", err)
	}
	return nil
}

// judged publishes msgs as a relay does: what is neither stored nor refused for good is sent again, with the others of its kind.
// In the end, those whose ids are bad, and no others, are refused.
func (f BrokerFixture) judged(ctx context.Context, msgs []core.Message, bad map[string]bool) error {
	for range 2 * len(msgs) { // one at a time, each behind a connection that broke
		results, err := resultsOf(f.Broker.Publish(ctx, msgs), len(msgs))
		if err != nil {
			return err
		}
		var left []core.Message
		var last error
		for i, m := range msgs {
			switch refused := errors.Is(results[i], core.ErrPermanent); {
			case bad[m.ID] && results[i] == nil:
				return fmt.Errorf("message %q can never be stored, and is said to be stored", m.ID)
			case !bad[m.ID] && refused:
				return fmt.Errorf("message %q, in one call with others that can never be stored, is refused as they are: %w", m.ID, results[i])
			case results[i] != nil && !refused:
				left, last = append(left, m), results[i]
			}
		}
		if len(left) == 0 {
			return nil
		}
		if msgs = left; ctx.Err() != nil {
			return fmt.Errorf("%s are neither stored nor refused for good: %w", list(idsOf(msgs)), last)
		}
	}
	return fmt.Errorf("%s are neither stored nor refused for good, however often they are sent", list(idsOf(msgs)))
}

// holdsOnly wants the topic to hold those of msgs whose ids are not bad.
func (f BrokerFixture) holdsOnly(ctx context.Context, msgs []core.Message, bad map[string]bool) error {
	good := slices.DeleteFunc(idsOf(msgs), func(id string) bool { return bad[id] })
	// Several times: who finds the guilty one by halves sends the others again.
	stored, err := f.search(ctx, good, 5*len(msgs))
	if err != nil {
		return err
	}
	for _, m := range stored {
		if bad[m.ID] {
			return fmt.Errorf("message %q was refused for good, and is stored", m.ID)
		}
	}
	return nil
}

// checkBehindAPoison has a message refused for good before many others of its key, and reads what is stored of them. They are
// more than who sends a call in parts would put into one.
func checkBehindAPoison(ctx context.Context, f BrokerFixture) error {
	const guilty, count = 2, 300
	var msgs []core.Message
	for i := range count {
		m := core.Message{ID: fmt.Sprintf("behind %d", i-guilty), Topic: f.Topic, Key: "k"}
		switch {
		case i == guilty:
			m = f.poisoned("poison", "k")
		case i == 1:
			m.ID = "before"
		case i%10 == 0 || i == guilty+1:
			m.ID, m.Key = fmt.Sprintf("beside %d", i), "other"
		}
		msgs = append(msgs, m)
	}
	results, err := resultsOf(f.Broker.Publish(ctx, msgs), len(msgs))
	if err != nil {
		return err
	}
	// Each key's last one: when it is stored, so is what may be stored before it.
	last := []core.Message{{ID: "last", Key: "k"}, {ID: "last of the other key", Key: "other"}}
	if err := f.publish(ctx, last...); err != nil {
		return fmt.Errorf("the next call: %w", err)
	}
	want := idsOf(last)
	for i, m := range msgs {
		if results[i] == nil {
			want = append(want, m.ID)
		}
	}
	stored, err := f.search(ctx, want, 5*len(msgs)) // several times, as above
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, m := range stored {
		there[m.ID] = true
	}
	for i, m := range msgs {
		behind := i > guilty && m.Key == "k"
		switch {
		case behind && there[m.ID]:
			return fmt.Errorf("message %q is stored, and its result is %w; the one before it of the same key is not stored: %w", m.ID, orNil(results[i]), orNil(results[guilty]))
		case i == guilty && !errors.Is(results[i], core.ErrPermanent):
			return fmt.Errorf("the result of a message that can never be stored is %w, want ErrPermanent", orNil(results[i]))
		case behind && !errors.Is(results[i], core.ErrNotAttempted):
			return fmt.Errorf("message %q stands behind one of its key that is not stored, and its result is %w, want ErrNotAttempted", m.ID, orNil(results[i]))
		case there[m.ID] && (errors.Is(results[i], core.ErrNotAttempted) || errors.Is(results[i], core.ErrPermanent)):
			return fmt.Errorf("message %q is stored, and its result is %w", m.ID, results[i])
		}
	}
	return holes(msgs, results)
}
