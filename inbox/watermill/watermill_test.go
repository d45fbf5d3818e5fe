package watermill_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	wmill "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/inbox/watermill"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
)

// serve runs handler behind the middleware, in a router, for the messages, and returns when all are acknowledged, or
// after the first that is not.
func serve(t *testing.T, shop *inboxtest.Shop, handler message.HandlerFunc, msgs ...*message.Message) (acked int) {
	t.Helper()
	pubsub := gochannel.NewGoChannel(gochannel.Config{Persistent: true}, wmill.NopLogger{})
	router, err := message.NewRouter(message.RouterConfig{}, wmill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan bool, len(msgs))
	var mu sync.Mutex // the router handles messages side by side
	refused := false
	// Around the middleware: what the router acts on.
	outcomes := func(h message.HandlerFunc) message.HandlerFunc {
		return func(m *message.Message) ([]*message.Message, error) {
			produced, err := h(m)
			if len(produced) > 0 {
				t.Error("the middleware returns messages to the router")
			}
			mu.Lock()
			defer mu.Unlock()
			if !refused { // a message that is not acknowledged comes again
				answers <- err == nil
				refused = err != nil
			}
			return produced, err
		}
	}
	router.AddHandler("billing", "orders", pubsub, "produced", pubsub, outcomes(watermill.Middleware(shop.Consumer)(handler)))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	<-router.Running()
	for _, m := range msgs {
		if err := pubsub.Publish("orders", m); err != nil {
			t.Fatal(err)
		}
	}
	for range msgs {
		select {
		case ok := <-answers:
			if !ok {
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
				return acked
			}
			acked++
		case <-time.After(time.Minute):
			t.Fatal("a message is neither acknowledged nor refused")
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return acked
}

func newMessage(id string) *message.Message { return message.NewMessage(id, []byte("payload")) }

func TestAHandlerRunsOnceInItsTransaction(t *testing.T) {
	dead := new(conformance.Recorder)
	shop := inboxtest.New(t, dead, "dead")
	runs := map[string]int{}
	handler := func(m *message.Message) ([]*message.Message, error) {
		runs[m.UUID]++
		if string(m.Payload) != "payload" {
			t.Errorf("run %d of %s got the payload %q, which an earlier one changed", runs[m.UUID], m.UUID, m.Payload)
		}
		m.Ack() // of a copy: the message itself is not acknowledged before the commit
		if err := inboxtest.Effect(m.Context(), watermill.Tx(m.Context()), m.UUID); err != nil {
			return nil, err
		}
		if m.UUID == "poison" || m.UUID == "late" && runs["late"] < 3 {
			m.Payload[0] = '!' // of a copy, too
			return nil, errors.New("it failed")
		}
		return nil, nil
	}
	poison := newMessage("poison")
	poison.Metadata.Set("lockstep-key", "k")
	if acked := serve(t, shop, handler, newMessage("a"), newMessage("a"), newMessage("late"), poison, newMessage("b")); acked != 5 {
		t.Errorf("%d messages were acknowledged, want all 5", acked)
	}
	shop.ExpectOnce(t, "a", "b", "late")
	if runs["a"] != 1 || runs["late"] != 3 || runs["poison"] != 5 {
		t.Errorf("runs: %v, want 1 of a, 3 of late and 5 of poison", runs)
	}
	letters := dead.Stored()
	if len(letters) != 1 {
		t.Fatalf("dead letters: got %d, want 1", len(letters))
	}
	if m := letters[0].Message; m.ID != "poison" || m.Key != "k" || string(m.Payload) != "payload" || m.Topic != "dead" ||
		m.Headers[inbox.TopicHeader] != "orders" || !strings.Contains(m.Headers[inbox.CauseHeader], "it failed") {
		t.Errorf("the dead letter is %+v", m)
	} else if key, there := m.Headers["lockstep-key"]; there {
		t.Errorf("the dead letter's key is also in a header, as %q", key)
	}
}

// What a handler returns would be published after the commit, or never.
func TestAHandlerThatReturnsMessagesIsRefused(t *testing.T) {
	dead := new(conformance.Recorder)
	shop := inboxtest.New(t, dead, "dead")
	acked := serve(t, shop, func(m *message.Message) ([]*message.Message, error) {
		return []*message.Message{newMessage("produced")}, inboxtest.Effect(m.Context(), watermill.Tx(m.Context()), m.UUID)
	}, newMessage("a"))
	if acked != 0 || len(dead.Stored()) != 0 {
		t.Errorf("acknowledged %d and buried %d, want neither", acked, len(dead.Stored()))
	}
	shop.ExpectOnce(t)
}

func TestTxOutsideTheMiddleware(t *testing.T) {
	if tx := watermill.Tx(t.Context()); tx != nil {
		t.Errorf("got %v, want nil", tx)
	}
}
