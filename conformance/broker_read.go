package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// missing is how long a message that must be stored is looked for. It is less than a check has, so that there is time to
	// find out which one is missing.
	missing = 10 * time.Second
	// probe is how long Read may take to return messages that are stored, when it is asked how many there are.
	probe = 2 * time.Second
	// probes is how long that is asked.
	probes = 12 * time.Second
	// readGrace is how long Read may take to return after its context ended.
	readGrace = 2 * time.Second
)

// errRead says that Read does what it must not.
var errRead = errors.New("the fixture's Read")

// errAltered says that a message is stored, and not as it was given.
var errAltered = errors.New("stored as something else")

// take returns the first n messages that the topic holds. It bears with nothing that Read must not do.
func (f BrokerFixture) take(ctx context.Context, limit time.Duration, n int) ([]core.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var msgs []core.Message // Read's, once it has answered
	answer := guarded(func() (err error) {
		msgs, err = f.Read(ctx, n)
		return err
	})
	var err error
	select {
	case err = <-answer:
	case <-ctx.Done():
		late := time.NewTimer(readGrace)
		defer late.Stop()
		select {
		case err = <-answer:
		case <-late.C:
			return nil, fmt.Errorf("%w has not returned %v after its context ended", errRead, readGrace)
		}
	}
	switch {
	case err != nil:
		return nil, err
	case len(msgs) < n:
		return nil, fmt.Errorf("%w returned %d messages and no error; it must wait until there are the %d that it is asked for", errRead, len(msgs), n)
	}
	return msgs[:n], nil
}

// await is take for messages that were said to be stored.
func (f BrokerFixture) await(ctx context.Context, n int) ([]core.Message, error) {
	return f.awaitFor(ctx, missing, n)
}

// awaitFor is await, for so long at most. Once some never came in this run, it fails anyway, and another check that waits as long
// tells nothing new.
func (f BrokerFixture) awaitFor(ctx context.Context, most time.Duration, n int) ([]core.Message, error) {
	limit := f.losses.patience(most)
	began := time.Now()
	msgs, err := f.take(ctx, limit, n)
	f.losses.note(time.Since(began), err == nil)
	if err != nil && limit < most {
		err = fmt.Errorf("%w (looked for no longer than %v: an earlier check had waited in vain)", err, limit)
	}
	return msgs, err
}

// held returns what the topic holds, where Read has not found n messages, and whether that is sure.
func (f BrokerFixture) held(ctx context.Context, n int) (msgs []core.Message, sure bool) {
	ctx, cancel := context.WithTimeout(ctx, f.losses.patience(probes))
	defer cancel()
	if f.Stored != nil {
		msgs, err := f.Stored(ctx)
		return msgs, err == nil
	}
	// Mostly there is one too few. Read says nothing of fewer than it is asked for.
	for step := 1; len(msgs)+1 < n && ctx.Err() == nil; step *= 2 {
		ask := max(len(msgs)+1, n-step)
		if len(msgs) > 0 {
			ask = (len(msgs) + n) / 2
		}
		if some, err := f.take(ctx, probe, ask); err == nil {
			msgs = some
		} else {
			n = ask
		}
	}
	return msgs, len(msgs)+1 >= n
}

// exactly returns the topic's messages. They are those with ids, each once, or it says which are not.
func (f BrokerFixture) exactly(ctx context.Context, ids []string) ([]core.Message, error) {
	stored, err := f.await(ctx, len(ids))
	if err != nil {
		return nil, f.lost(ctx, ids, err)
	}
	// What is absent may stand behind them.
	if faults := slices.Concat(twice(stored), foreign(ids, stored)); len(faults) > 0 {
		return nil, errors.New(strings.Join(faults, "; "))
	}
	return stored, nil
}

// lost says what the topic holds, of which Read said that there are fewer messages than ids.
func (f BrokerFixture) lost(ctx context.Context, ids []string, cause error) error {
	stored, sure := f.held(ctx, len(ids))
	faults := slices.Concat(twice(stored), foreign(ids, stored))
	if sure {
		faults = append(faults, absent(ids, stored)...)
	} else {
		faults = append(faults, fmt.Sprintf("%d messages were said to be stored, and not all of them are: the topic holds %d or more", len(ids), len(stored)))
	}
	return fmt.Errorf("%s: %w", strings.Join(faults, "; "), cause)
}

// find looks for messages among those that the topic holds, of which others may be. There are most messages at most.
func (f BrokerFixture) find(ctx context.Context, ids []string, most int) error {
	_, err := f.search(ctx, ids, most)
	return err
}

// search is find, and returns what it looked at.
func (f BrokerFixture) search(ctx context.Context, ids []string, most int) (stored []core.Message, err error) {
	for n := len(ids); n > 0; {
		if stored, err = f.await(ctx, n); err != nil {
			stored, _ = f.held(ctx, n)
			return nil, fmt.Errorf("%s: %w", strings.Join(absent(ids, stored), ""), err)
		}
		lost := notAmong(ids, stored)
		if len(lost) == 0 {
			return stored, nil
		}
		if n >= most {
			return nil, errors.New(absent(ids, stored)[0])
		}
		n += len(lost) // the topic holds those, too, behind what was read
	}
	return nil, nil
}

// notAmong returns those of ids that are not among the stored messages.
func notAmong(ids []string, stored []core.Message) []string {
	there := map[string]bool{}
	for _, m := range stored {
		there[m.ID] = true
	}
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return there[id] })
}

// absent says which of ids are not among the stored messages.
func absent(ids []string, stored []core.Message) []string {
	lost := notAmong(ids, stored)
	if len(lost) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s were said to be stored, and are not among the %d stored messages", list(lost), len(stored))}
}

// twice says which messages are stored more than once.
func twice(stored []core.Message) []string {
	times := map[string]int{}
	var ids []string
	for _, m := range stored {
		if times[m.ID]++; times[m.ID] == 2 {
			ids = append(ids, m.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	return []string{"stored twice: " + list(ids)}
}

// foreign says which stored messages have none of ids.
func foreign(ids []string, stored []core.Message) []string {
	known := map[string]bool{}
	for _, id := range ids {
		known[id] = true
	}
	var others []string
	for _, m := range stored {
		if !known[m.ID] {
			others = append(others, m.ID)
		}
	}
	if len(others) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the topic holds %s, which the check did not publish to it (the topic has to be the check's own)", list(others))}
}

// list tells the first of many ids.
func list(ids []string) string {
	const most = 10
	text := strings.Join(quoted(ids[:min(most, len(ids))]), ", ")
	if more := len(ids) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

func quoted(ids []string) []string {
	quotes := make([]string, len(ids))
	for i, id := range ids {
		quotes[i] = fmt.Sprintf("%q", id)
	}
	return quotes
}

func idsOf(msgs []core.Message) []string {
	ids := make([]string, len(msgs))
	for i, m := range msgs {
		ids[i] = m.ID
	}
	return ids
}

// expect reads as many messages as msgs are and compares them, in whatever order.
func (f BrokerFixture) expect(ctx context.Context, msgs []core.Message) error {
	stored, err := f.exactly(ctx, idsOf(msgs))
	if err != nil {
		return err
	}
	for _, want := range msgs {
		got := stored[slices.IndexFunc(stored, func(m core.Message) bool { return m.ID == want.ID })]
		if got.Key != want.Key || !maps.Equal(got.Headers, want.Headers) || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("message %q is %w: %s, want %s", want.ID, errAltered, brief(got), brief(want))
		}
	}
	return nil
}

// brief tells a message, as far as that fits a line.
func brief(m core.Message) string {
	return fmt.Sprintf("{ID: %q, Topic: %q, Key: %.40q, Headers: %.200q, Payload: %d bytes %.40q}", m.ID, m.Topic, m.Key, m.Headers, len(m.Payload), m.Payload)
}

// numbered is message n of the k-th key. inOrder knows it by its first byte.
func numbered(k, n, padding int) core.Message {
	return core.Message{ID: fmt.Sprintf("%d/%d", k, n), Key: fmt.Sprint(k), Payload: append([]byte{byte(n)}, make([]byte, padding)...)}
}

// expectOrder reads the numbered messages of each key and compares their order.
func (f BrokerFixture) expectOrder(ctx context.Context, keys, each int) error {
	var ids []string
	for n := range each {
		for k := range keys {
			ids = append(ids, numbered(k, n, 0).ID)
		}
	}
	stored, err := f.exactly(ctx, ids)
	if err != nil {
		return err
	}
	return inOrder(stored, keys)
}

// inOrder compares the order of each key's numbered messages.
func inOrder(stored []core.Message, keys int) error {
	next := map[string]byte{}
	for _, m := range stored {
		switch {
		case len(m.Payload) == 0:
			return fmt.Errorf("message %q is stored without its payload", m.ID)
		case m.Payload[0] != next[m.Key]:
			return fmt.Errorf("key %s: message %d stands where message %d belongs", m.Key, m.Payload[0], next[m.Key])
		}
		next[m.Key]++
	}
	if len(next) != keys {
		return fmt.Errorf("%d keys are stored, want %d", len(next), keys)
	}
	return nil
}
