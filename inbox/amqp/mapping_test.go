package amqp_test

import (
	"context"
	"database/sql"
	"log/slog"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox/amqp"
	"github.com/lockstep-go/lockstep/internal/inboxtest"

	brokeramqp "github.com/lockstep-go/lockstep/broker/amqp"
)

// The id is that of a CloudEvent, or where the configuration says: by another one a duplicate would be new. What else the
// message had, the effect gets.
func TestTheIDIsWhereItIsSaid(t *testing.T) {
	w := newWorld(t)
	events, err := brokeramqp.Open(brokeramqp.Config{URLs: []string{w.url}, CloudEventsSource: "/shop"})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)
	m := core.Message{
		ID: "event", Topic: w.queue, Key: "42", EnqueuedAt: at, Payload: []byte("{}"),
		Headers: map[string]string{"type": "OrderPlaced", "order": "o1", "content-type": "application/json"},
	}
	for range 2 {
		if err := events.Publish(t.Context(), []core.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan core.Message, 10)
	watched := func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		got <- m
		return effect(ctx, tx, m)
	}
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, watched))
	w.Await(t, 1)
	w.awaitEmpty(t)
	stop()
	w.ExpectOnce(t, "event")
	if have := <-got; have.Topic != w.queue || have.Key != "42" || !have.EnqueuedAt.Equal(at) || have.Headers["order"] != "o1" ||
		have.Headers["content-type"] != "application/json" || string(have.Payload) != "{}" {
		t.Errorf("the effect got %+v, want what was published, %+v", have, m)
	}

	w.publish(t, core.Message{ID: "plain", EnqueuedAt: at})
	if err := w.broker.Publish(t.Context(), []core.Message{{ID: "direct", Topic: brokeramqp.DefaultExchange, Key: w.queue}}); err != nil {
		t.Fatal(err)
	}
	stop = inboxtest.Running(t, w.loop(t, w.url, 1, watched))
	w.Await(t, 3)
	w.awaitEmpty(t)
	stop()
	if have := <-got; have.ID != "plain" || !have.EnqueuedAt.Equal(at) {
		t.Errorf("the effect got %+v, want plain, enqueued at %v", have, at)
	}
	if have := <-got; have.ID != "direct" || have.Topic != w.queue {
		t.Errorf("the effect got %+v, want direct, of the topic %s, since the default exchange has no name", have, w.queue)
	}

	w.publish(t, core.Message{ID: "m1", Headers: map[string]string{"order": "o1"}}, core.Message{ID: "m2", Headers: map[string]string{"order": "o1"}})
	loop, err := amqp.New(w.Consumer, w.holding(effect), amqp.Config{
		// The first node is away.
		URLs: []string{"amqp://127.0.0.1:1", w.url}, Queue: w.queue, IDHeader: "order", Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop = inboxtest.Running(t, loop)
	w.Await(t, 4)
	w.stopSettled(t, stop, 16)
	w.ExpectOnce(t, "event", "plain", "direct", "o1")
}

// What a consumer cannot work on yet stays in the queue, for others.
func TestAConsumerTakesNoMoreThanItsPrefetch(t *testing.T) {
	w := newWorld(t)
	w.publish(t, core.Message{ID: "a"})
	w.publish(t, core.Message{ID: "b"})
	begun, release := make(chan struct{}), make(chan struct{})
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		close(begun)
		<-release
		return effect(ctx, tx, m)
	}))
	<-begun
	if d, found, err := w.channel.Get(w.queue, true); err != nil || !found || d.MessageId != "b" {
		t.Errorf("got %q, %t, %v, want b, for which there is no place yet", d.MessageId, found, err)
	}
	close(release)
	w.Await(t, 1)
	w.awaitEmpty(t)
	stop()
	w.ExpectOnce(t, "a")
}

// A CloudEvent of somebody else's has its id in a header alone.
func TestACloudEventOfOthersHasAnID(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		event := amqp091.Publishing{Headers: amqp091.Table{"cloudEvents:id": "theirs"}, Body: []byte("{}")}
		if err := w.channel.PublishWithContext(t.Context(), w.queue, "", false, false, event); err != nil {
			t.Fatal(err)
		}
	}
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, effect))
	w.Await(t, 1)
	w.awaitEmpty(t)
	stop()
	w.ExpectOnce(t, "theirs")
}
