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
		if err := holes(msgs, results); err != nil {
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

// holes looks for a message that is said to be stored although an earlier one of its key is said to be not, or not
// surely.
func holes(msgs []core.Message, results []error) error {
	failed := map[string]string{}
	for i, m := range msgs {
		switch id, ok := failed[m.Key]; {
		case ok && results[i] == nil:
			return fmt.Errorf("message %s is stored, and %s before it of the same key was not", m.ID, id)
		case !ok && results[i] != nil:
			failed[m.Key] = m.ID
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
