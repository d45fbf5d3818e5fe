package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func checkKeysInACall(ctx context.Context, f BrokerFixture) error {
	const keys, each = 4, 25
	var msgs []core.Message
	for n := range each {
		for k := range keys {
			padding := 0
			if n%5 == k { // more in all than most brokers take in one request
				padding = 200_000
			}
			msgs = append(msgs, numbered(k, n, padding))
		}
	}
	if err := f.publish(ctx, msgs...); err != nil {
		return err
	}
	return f.expectOrder(ctx, keys, each)
}

// checkKeysWithAHole ends calls at several times, looks at what they say, and reads what is stored of them: of what is said to be
// uncertain, too, only a key's first ones may be.
func checkKeysWithAHole(ctx context.Context, f BrokerFixture) error {
	const keys, each, lasts = 2, 20, 5
	v := &verdicts{}
	var last []core.Message
	place := map[string]int{} // of each id among its key's
	for round, after := range []time.Duration{0, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond} {
		var msgs []core.Message
		for n := range each {
			for k := range keys {
				m := numbered(keys*round+k, n, 50_000)
				msgs, place[m.ID] = append(msgs, m), n
			}
		}
		ending, cancel := context.WithTimeout(ctx, after)
		results, err := f.publishEach(ending, msgs...)
		cancel()
		if err != nil {
			return err
		}
		if err := v.hear("its context ended", msgs, results); err != nil {
			return err
		}
		for i := range lasts * keys {
			last = append(last, core.Message{ID: fmt.Sprintf("last %d/%d", round, i), Key: msgs[i%keys].Key})
		}
	}
	// What tells that the topic was read to its end. There are several of each key, so that they are soon found.
	if err := f.publish(ctx, last...); err != nil {
		return fmt.Errorf("after calls whose contexts ended, another one fails: %w", err)
	}
	stored, err := f.search(ctx, append(v.stored, idsOf(last)...), 5*(len(place)+len(last)))
	if err != nil {
		return err
	}
	return firstError(gapless(stored, place), v.keep(stored))
}

// holes looks at what is said of each key's messages behind the first one that failed. None of them may be stored, so the relay may be
// told of each that it was not attempted. It may be told the failure itself, too, where that is what a call has to say of all its
// messages; and that what follows something uncertain was not sent any more. A refusal behind a failure would count an
// attempt of a message whose turn it was not, and what is uncertain behind a message that is not stored may overtake it.
func holes(msgs []core.Message, results []error) error {
	failed := map[topicKey]int{}
	for i := range msgs {
		m := &msgs[i]
		if m.Key == "" {
			continue
		}
		first, ok := failed[keyOf(m)]
		if !ok {
			if results[i] != nil {
				failed[keyOf(m)] = i
			}
			continue
		}
		was, is := core.ClassOf(results[first]), core.ClassOf(results[i])
		switch {
		case results[i] == nil:
			return fmt.Errorf("message %s is stored, and %s before it of the same key was not", m.ID, msgs[first].ID)
		case is == "not attempted",
			is == was && (is == "unavailable" || is == "uncertain" || is == "fenced"),
			was == "uncertain" && is == "unavailable":
		default:
			return fmt.Errorf("the result of message %s is %w (%s), and that of %s before it of the same key is %w (%s): want that the later one was not attempted",
				m.ID, results[i], is, msgs[first].ID, results[first], was)
		}
	}
	return nil
}

// gapless looks for a message that was stored before an earlier one of its key. Copies come behind what they are copies of.
func gapless(stored []core.Message, place map[string]int) error {
	next := map[string]int{}
	seen := map[string]bool{}
	for _, m := range stored {
		n, ours := place[m.ID]
		if !ours || seen[m.ID] {
			continue
		}
		if seen[m.ID] = true; n != next[m.Key] {
			return fmt.Errorf("of a call whose context ended, message %d of key %s is stored, and message %d before it is not", n, m.Key, next[m.Key])
		}
		next[m.Key]++
	}
	return nil
}
