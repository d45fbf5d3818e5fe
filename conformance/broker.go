package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// BrokerFixture is an empty topic for one check.
type BrokerFixture struct {
	// Broker is what is tested.
	Broker core.Broker
	// Topic is empty, and the check's own.
	Topic string
	// Read returns the first n messages that the topic holds; those of one key in the order in which they were stored.
	Read func(ctx context.Context, n int) ([]core.Message, error)
}

// TestBroker runs every check for brokers. open is called once for each, and registers its clean-up with t.
func TestBroker(t *testing.T, open func(t *testing.T) BrokerFixture) {
	t.Helper()
	runChecks(t, group[BrokerFixture]{checks: brokerChecks}, open)
}

var brokerChecks = []check[BrokerFixture]{
	{"nil-is-stored", "a nil error means that the broker has stored every message, every part of it as it was given", checkStored},
	{"key-order", "messages of one key that are published one after another are stored in that order", checkKeyOrder},
	{"ended-context", "publish returns when the context is done, and claims nothing that it does not know", checkEndedContext},
	{"arguments-untouched", "publish does not change the messages", checkArguments},
}

// publish sends msgs to the fixture's topic.
func (f BrokerFixture) publish(ctx context.Context, msgs ...core.Message) error {
	for i := range msgs {
		msgs[i].Topic = f.Topic
	}
	return f.Broker.Publish(ctx, msgs)
}

func checkStored(ctx context.Context, f BrokerFixture) error {
	const awkward = `é漢😀 'single' "double" \back\`
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	msgs := []core.Message{
		{ID: "plain", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}")},
		{ID: "least"},
		{ID: awkward, Key: awkward, Headers: map[string]string{"awkward": awkward, "empty": ""}, Payload: allBytes},
		{ID: "long", Key: strings.Repeat("k", core.MaxKeyBytes), Payload: bytes.Repeat([]byte("x"), 100_000)},
	}
	if err := f.publish(ctx, msgs...); err != nil {
		return err
	}
	stored, err := f.Read(ctx, len(msgs))
	if err != nil {
		return err
	}
	for _, want := range msgs {
		i := slices.IndexFunc(stored, func(m core.Message) bool { return m.ID == want.ID })
		if i < 0 {
			return fmt.Errorf("message %q is not among the %d stored ones", want.ID, len(stored))
		}
		got := stored[i]
		if got.Key != want.Key || !maps.Equal(got.Headers, want.Headers) || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("message %q is stored as %.300v, want %.300v", want.ID, got, want)
		}
	}
	return nil
}

func checkKeyOrder(ctx context.Context, f BrokerFixture) error {
	const calls, keys = 50, 20
	for n := range calls {
		var msgs []core.Message
		for k := range keys {
			msgs = append(msgs, core.Message{ID: fmt.Sprintf("%d/%d", k, n), Key: fmt.Sprint(k), Payload: []byte{byte(n)}})
		}
		if err := f.publish(ctx, msgs...); err != nil {
			return err
		}
	}
	stored, err := f.Read(ctx, calls*keys)
	if err != nil {
		return err
	}
	next := map[string]byte{}
	for _, m := range stored {
		if m.Payload[0] != next[m.Key] {
			return fmt.Errorf("key %s: message %d stands where message %d belongs", m.Key, m.Payload[0], next[m.Key])
		}
		next[m.Key]++
	}
	if len(next) != keys {
		return fmt.Errorf("%d keys are stored, want %d", len(next), keys)
	}
	return nil
}

func checkEndedContext(ctx context.Context, f BrokerFixture) error {
	ended, cancel := context.WithCancel(ctx)
	cancel()
	first := core.Message{ID: "first", Payload: []byte("x")}
	err := f.publish(ended, first)
	if err == nil {
		stored, err := f.Read(ctx, 1)
		if err != nil {
			return err
		}
		if stored[0].ID != "first" {
			return fmt.Errorf("nil was returned, and the topic holds %v", stored)
		}
		return nil
	}
	var batch *core.BatchError
	if errors.As(err, &batch) && (len(batch.Results) != 1 || batch.Results[0] == nil) {
		return fmt.Errorf("the results of one message that failed are %v", batch.Results)
	}
	return nil
}

func checkArguments(ctx context.Context, f BrokerFixture) error {
	given := core.Message{ID: "a", Key: "k", Headers: map[string]string{"h": "v"}, Payload: []byte("payload")}
	if err := f.publish(ctx, given); err != nil {
		return err
	}
	if given.ID != "a" || given.Key != "k" || !maps.Equal(given.Headers, map[string]string{"h": "v"}) ||
		string(given.Payload) != "payload" {
		return fmt.Errorf("the message is now %v", given)
	}
	return nil
}
