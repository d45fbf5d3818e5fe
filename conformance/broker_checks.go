package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// soon is how long after its context's end a call may take to return. The engine gives a call up after a second; the
// rest is for slow machines.
const soon = 5 * time.Second

func checkStored(ctx context.Context, f BrokerFixture) error {
	const awkward = `é漢😀 'single' "double" \back\`
	allBytes := everyByte()
	msgs := []core.Message{
		{ID: "plain", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}")},
		{ID: "least"},
		{ID: "controls", Payload: allBytes[:' ']}, // text for UTF-8, and for nothing else
		{ID: awkward, Key: awkward, Headers: map[string]string{"awkward": awkward, "empty": ""}, Payload: allBytes},
		{ID: "empty", Headers: map[string]string{}, Payload: []byte{}}, // which is the same as nil
		longest("longest "),
		{ID: "long", Key: strings.Repeat("k", core.MaxKeyBytes), Payload: bytes.Repeat([]byte("x"), 100_000)},
	}
	if err := f.publish(ctx, msgs...); err != nil {
		return err
	}
	return f.expect(ctx, msgs)
}

func checkKeyOrder(ctx context.Context, f BrokerFixture) error {
	const calls, keys = 50, 20
	for n := range calls {
		var msgs []core.Message
		for k := range keys {
			msgs = append(msgs, numbered(k, n, 0))
		}
		if err := f.publish(ctx, msgs...); err != nil {
			return err
		}
	}
	return f.expectOrder(ctx, keys, calls)
}

// checkEndedContext publishes with contexts that have ended, or end under way, looks whether what was said to be stored
// is, and publishes once more.
func checkEndedContext(ctx context.Context, f BrokerFixture) error {
	v := &verdicts{}
	for n, after := range []time.Duration{0, 0, time.Millisecond, 5 * time.Millisecond} {
		ending, cancel := context.WithTimeout(ctx, after)
		var msgs []core.Message
		for k := range 3 {
			msgs = append(msgs, numbered(k, n, 0))
		}
		began := time.Now()
		results, err := f.publishEach(ending, msgs...)
		cancel()
		if err != nil {
			return err
		}
		if took := time.Since(began); took > soon {
			return fmt.Errorf("it returned after %v, with a context that ended after %v", took, after)
		}
		if err := v.hear("its context ended", msgs, results); err != nil {
			return err
		}
	}
	last := v.last()
	if err := f.publish(ctx, last...); err != nil {
		return fmt.Errorf("after calls whose contexts ended, another one fails: %w", err)
	}
	return v.hold(ctx, f, v.published+len(last))
}

func checkBatchResults(ctx context.Context, f BrokerFixture) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for n := range 3 {
		var msgs []core.Message
		for k := range n + 1 {
			msgs = append(msgs, numbered(k, n, 0))
		}
		results, err := f.publishEach(ended, msgs...)
		if err == nil {
			err = unrefused("its context ended", msgs, results)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkArguments looks at the very memory that the broker was given, in a call that succeeds and in one that need not.
func checkArguments(ctx context.Context, f BrokerFixture) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for what, ctx := range map[string]context.Context{"a call": ctx, "a call whose context had ended": ended} {
		room := []byte("payload and room behind it")
		kept := slices.Clone(room)
		msgs := []core.Message{
			{ID: "b", Topic: f.Topic, Key: "k", Headers: map[string]string{"h": "v", "i": "w"}, Payload: room[:len("payload")]},
			{ID: "a", Topic: f.Topic},
			{ID: "c", Topic: f.Topic, Headers: map[string]string{}, Payload: []byte{}, NotBefore: time.Unix(1, 0)},
		}
		copies := copyMessages(msgs)
		err := f.Broker.Publish(ctx, msgs)
		for i := range msgs {
			if !sameMessage(&msgs[i], &copies[i]) {
				return fmt.Errorf("after %s that returned %v, message %d was %s and is %s", what, err, i, brief(copies[i]), brief(msgs[i]))
			}
		}
		if !bytes.Equal(room, kept) {
			return fmt.Errorf("after %s, the bytes behind a payload were %q and are %q", what, kept, room)
		}
	}
	return nil
}

// checkLetGo uses the memory of a call's messages for something else as soon as the call has returned. The race detector
// sees a broker that still reads it; without one, what is stored tells.
func checkLetGo(ctx context.Context, f BrokerFixture) error {
	var want []core.Message
	msgs := make([]core.Message, 3)
	payload := make([]byte, 1000)
	headers := map[string]string{}
	for n := range 10 {
		for i := range payload {
			payload[i] = byte(n)
		}
		for i := range msgs {
			id := fmt.Sprintf("%d/%d", i, n)
			headers["call"] = fmt.Sprint(n)
			msgs[i] = core.Message{ID: id, Topic: f.Topic, Key: fmt.Sprint(i), Headers: headers, Payload: payload}
		}
		want = append(want, copyMessages(msgs)...)
		if err := f.Broker.Publish(ctx, msgs); err != nil {
			return err
		}
	}
	clear(payload)
	clear(headers)
	clear(msgs)
	err := f.expect(ctx, want)
	if errors.Is(err, errAltered) {
		return fmt.Errorf("the messages' memory was read after Publish had returned nil: %w", err)
	}
	return err
}

func checkLargeBatch(ctx context.Context, f BrokerFixture) error {
	const count = 20
	var msgs []core.Message
	for i := range count {
		// Letters: control characters become six bytes each in JSON, and the check one of processors.
		m := core.Message{ID: fmt.Sprint(i), Payload: bytes.Repeat([]byte{'a' + byte(i)}, core.MaxPayloadBytes)}
		if i%2 == 0 {
			m.Key = fmt.Sprint(i)
		}
		msgs = append(msgs, m)
	}
	if err := f.publish(ctx, msgs...); err != nil {
		return err
	}
	// And one of many keys, as a relay sends it that comes to a backlog: more than a library or a server takes at once.
	const keys = 600
	var many []core.Message
	for k := range keys {
		many = append(many, core.Message{ID: fmt.Sprint("many/", k), Key: fmt.Sprint("key ", k), Payload: []byte("{}")})
	}
	if err := f.publish(ctx, many...); err != nil {
		return fmt.Errorf("a call of %d messages: %w", keys, err)
	}
	return f.expect(ctx, append(msgs, many...))
}

// checkSilentBroker publishes to a broker that takes in nothing. When it does again, so must Publish.
func checkSilentBroker(ctx context.Context, f BrokerFixture) error {
	const patience = 500 * time.Millisecond
	if err := f.publish(ctx, core.Message{ID: "before", Key: "k"}); err != nil { // the connections are there
		return err
	}
	thaw, err := f.Freeze()
	if err != nil {
		return fmt.Errorf("freeze: %w", err)
	}
	thaw = sync.OnceFunc(thaw)
	defer thaw()
	ending, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer := make(chan error, 1)
	msgs := []core.Message{numbered(0, 0, 0), numbered(1, 0, 0)}
	go func() { answer <- f.publish(ending, msgs...) }()
	late := time.NewTimer(patience + soon)
	defer late.Stop()
	select {
	case err = <-answer:
	case <-late.C:
		thaw()
		select { // so that nothing of it is left, as far as that can be
		case <-answer: //nolint:errcheck // it is too late to say anything
		case <-ctx.Done():
		}
		return fmt.Errorf("it had not returned %v after its context ended", soon)
	}
	results, err := resultsOf(err, 2)
	if err != nil {
		return err
	}
	if slices.Contains(results, nil) {
		return fmt.Errorf("the broker took in nothing, and the results are %v", results)
	}
	v := &verdicts{}
	if err := v.hear("the broker took in nothing", msgs, results); err != nil {
		return err
	}
	thaw()
	after, err := f.again(ctx, "after the silence", v.last)
	if err != nil {
		return err
	}
	// Twice: what was on its way may have arrived, beside what the client sent again.
	return v.hold(ctx, f, 1+2*(v.published+after), "before")
}
