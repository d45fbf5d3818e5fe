package amqp_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/inbox/amqp"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
	"github.com/lockstep-go/lockstep/internal/servers"

	brokeramqp "github.com/lockstep-go/lockstep/broker/amqp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a queue and a queue for its dead letters, both with an exchange of the same name, and a shop that consumes.
type world struct {
	url, queue, dead string
	broker           *brokeramqp.Broker
	channel          *amqp091.Channel
	held             chan string // the id of a message that nobody settles, each time that it is tried
	*inboxtest.Shop
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{url: servers.RabbitMQ(t), held: make(chan string, 100)}
	conn, err := amqp091.Dial(w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if w.channel, err = conn.Channel(); err != nil {
		t.Fatal(err)
	}
	w.queue, w.dead = w.declare(t), w.declare(t)
	if w.broker, err = brokeramqp.Open(brokeramqp.Config{URLs: []string{w.url}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.broker.Close() })
	w.Shop = inboxtest.New(t, w.broker, w.dead)
	return w
}

func (w *world) declare(t *testing.T) string {
	t.Helper()
	name := "lockstep_test_" + strings.ToLower(rand.Text())
	if err := w.channel.ExchangeDeclare(name, "fanout", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := w.channel.QueueDeclare(name, true, false, false, false, amqp091.Table{"x-queue-type": "quorum"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, deleted := w.channel.QueueDelete(name, false, false, false)
		if err := errors.Join(w.channel.ExchangeDelete(name, false, false), deleted); err != nil {
			t.Error(err)
		}
	})
	if err := w.channel.QueueBind(name, "", name, false, nil); err != nil {
		t.Fatal(err)
	}
	return name
}

func (w *world) publish(t *testing.T, msgs ...core.Message) {
	t.Helper()
	for i := range msgs {
		msgs[i].Topic = w.queue
	}
	if err := w.broker.Publish(t.Context(), msgs); err != nil {
		t.Fatal(err)
	}
}

func (w *world) loop(t *testing.T, url string, prefetch int, effect inbox.Effect) *amqp.Loop {
	t.Helper()
	loop, err := amqp.New(w.Consumer, w.holding(effect), amqp.Config{URLs: []string{url}, Queue: w.queue, Prefetch: prefetch, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return loop
}

// awaitEmpty returns when nothing in the queue waits for delivery.
func (w *world) awaitEmpty(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		q, err := w.channel.QueueDeclarePassive(w.queue, true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if q.Messages == 0 {
			tick.Stop()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d messages are left in the queue", q.Messages)
		}
	}
}

// holding is effect, but for the messages of stopSettled.
func (w *world) holding(effect inbox.Effect) inbox.Effect {
	return func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if m.Headers["held"] == "" {
			return effect(ctx, tx, m)
		}
		select {
		case w.held <- m.ID:
		default: // it is tried again
		}
		return core.ErrUnavailable
	}
}

// stopSettled stops a loop when it has settled what it got, and fails the test unless it has acknowledged all of that. An effect
// can be seen, and a dead letter, before its message is acknowledged, and a stop in between gives it back. So the loop's places,
// prefetch of them, are filled with messages that nobody settles: these are all that it holds then, and all that it gives back.
func (w *world) stopSettled(t *testing.T, stop func(), prefetch int) {
	t.Helper()
	held, waiting := map[string]bool{}, map[string]bool{}
	for i := range prefetch {
		id := fmt.Sprintf("held %d", i)
		held[id], waiting[id] = true, true
		w.publish(t, core.Message{ID: id, Headers: map[string]string{"held": "yes", "order": id}})
	}
	timeout := time.After(time.Minute)
	for len(waiting) > 0 {
		select {
		case id := <-w.held:
			delete(waiting, id)
		case <-timeout:
			t.Fatalf("the loop has no place for %d more messages: what it had before is not acknowledged", len(waiting))
		}
	}
	stop()
	const drain = "drain"
	left, err := w.channel.Consume(w.queue, drain, true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for len(held) > 0 {
		select {
		case d := <-left:
			if !held[d.MessageId] {
				t.Errorf("the queue holds %q, want nothing: everything was acknowledged", d.MessageId)
			}
			delete(held, d.MessageId)
		case <-timeout:
			t.Fatalf("%d messages that nobody settled are gone", len(held))
		}
	}
	if err := w.channel.Cancel(drain, false); err != nil {
		t.Fatal(err)
	}
}

func effect(ctx context.Context, tx *sql.Tx, m core.Message) error {
	if m.Headers["poison"] != "" {
		return errors.New("it is poison")
	}
	return inboxtest.Effect(ctx, tx, m.ID)
}

func TestEachMessageHasItsEffectOnce(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for i := range 20 {
		m := core.Message{ID: fmt.Sprintf("m%02d", i), Payload: []byte("{}")}
		ids = append(ids, m.ID)
		w.publish(t, m)
		w.publish(t, m) // again, as a relay does that heard no answer
	}
	w.publish(t, core.Message{ID: "poison", Key: "k", Headers: map[string]string{"poison": "yes"}, Payload: []byte("p")})
	w.publish(t, core.Message{ID: "after"})
	dead, err := w.channel.Consume(w.dead, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := inboxtest.Running(t, w.loop(t, w.url, 4, effect))
	w.Await(t, len(ids)+1)
	select {
	case d := <-dead:
		cause, _ := d.Headers[inbox.CauseHeader].(string)
		if d.MessageId != "poison" || d.Headers[brokeramqp.KeyHeader] != "k" || string(d.Body) != "p" || !strings.Contains(cause, "it is poison") ||
			d.Headers[inbox.AttemptsHeader] != "5" {
			t.Errorf("the dead letter is %q with the headers %v", d.MessageId, d.Headers)
		}
	case <-time.After(time.Minute):
		t.Error("the poison did not become a dead letter")
	}
	w.stopSettled(t, stop, 4)
	w.ExpectOnce(t, append(ids, "after")...)
}

// With a prefetch of 1 the queue's order is kept, also past a message that fails for a while.
func TestAPrefetchOfOneKeepsTheOrder(t *testing.T) {
	w := newWorld(t)
	var want []string
	for i := range 10 {
		want = append(want, fmt.Sprintf("m%02d", i))
		w.publish(t, core.Message{ID: want[i]})
	}
	failures := 0
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if m.ID == "m03" && failures < 4 {
			failures++
			return errors.New("not yet")
		}
		return inboxtest.Effect(ctx, tx, m.ID)
	}))
	w.Await(t, len(want))
	stop()
	rows, err := w.DB.QueryContext(t.Context(), `SELECT id FROM effects ORDER BY place`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for i := 0; rows.Next(); i++ {
		var id string
		if err := rows.Scan(&id); err != nil {
			t.Fatal(err)
		}
		if id != want[i] {
			t.Errorf("effect %d is that of %s, want %s", i, id, want[i])
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

// Connections that break in the midst of effects: everything is delivered again, and nothing happens twice.
func TestConnectionsBreak(t *testing.T) {
	w := newWorld(t)
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := conformance.NewProxy(u.Host, conformance.ProxyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	u.Host = proxy.Addr()
	var ids []string
	for i := range 100 {
		ids = append(ids, fmt.Sprintf("m%03d", i))
		w.publish(t, core.Message{ID: ids[i]})
	}
	var runs atomic.Int64
	stop := inboxtest.Running(t, w.loop(t, u.String(), 8, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if n := runs.Add(1); n%20 == 0 && n <= 80 {
			proxy.Cut()
		}
		return inboxtest.Effect(ctx, tx, m.ID)
	}))
	w.Await(t, len(ids))
	w.stopSettled(t, stop, 8)
	w.ExpectOnce(t, ids...)
}

// A stop in the midst of an effect rolls it back, and the message is delivered again.
func TestAStopGivesBackWhatIsUnderWay(t *testing.T) {
	w := newWorld(t)
	w.publish(t, core.Message{ID: "a"})
	begun := make(chan struct{}, 1)
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if err := inboxtest.Effect(ctx, tx, m.ID); err != nil {
			return err
		}
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	<-begun
	stop()
	w.ExpectOnce(t)
	stop = inboxtest.Running(t, w.loop(t, w.url, 1, effect))
	w.Await(t, 1)
	stop()
	w.ExpectOnce(t, "a")
}

// kill takes n deliveries at a time from the queue, and breaks off, as the end of the process does.
func (w *world) kill(t *testing.T, times, n int) {
	t.Helper()
	for range times {
		conn, err := amqp091.Dial(w.url)
		if err != nil {
			t.Fatal(err)
		}
		channel, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		deliveries, err := channel.Consume(w.queue, "", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			<-deliveries
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// A message that kills its consumers is a dead letter before RabbitMQ drops it, and those that come after it are not. (Those in
// flight beside it are counted with it: docs/inbox.md.)
func TestAMessageThatKillsItsConsumersIsBuried(t *testing.T) {
	w := newWorld(t)
	w.publish(t, core.Message{ID: "killer", Payload: []byte("p")})
	w.kill(t, 16, 1)
	w.publish(t, core.Message{ID: "innocent"})
	dead, err := w.channel.Consume(w.dead, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := inboxtest.Running(t, w.loop(t, w.url, 4, effect))
	w.Await(t, 1)
	select {
	case d := <-dead:
		if cause, _ := d.Headers[inbox.CauseHeader].(string); d.MessageId != "killer" || string(d.Body) != "p" || !strings.Contains(cause, "16 deliveries") {
			t.Errorf("the dead letter is %q with the headers %v", d.MessageId, d.Headers)
		}
	case <-time.After(time.Minute):
		t.Error("the message did not become a dead letter")
	}
	w.stopSettled(t, stop, 4)
	w.ExpectOnce(t, "innocent")
}

func TestMaxDeliveriesIsTheConfigurations(t *testing.T) {
	w := newWorld(t)
	w.publish(t, core.Message{ID: "killer"})
	w.kill(t, 2, 1)
	dead, err := w.channel.Consume(w.dead, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{}, 1)
	loop, err := amqp.New(w.Consumer, func(context.Context, *sql.Tx, core.Message) error {
		ran <- struct{}{}
		return nil
	}, amqp.Config{URLs: []string{w.url}, Queue: w.queue, MaxDeliveries: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	inboxtest.Running(t, loop)
	select {
	case d := <-dead:
		if cause, _ := d.Headers[inbox.CauseHeader].(string); !strings.Contains(cause, "2 deliveries") {
			t.Errorf("the dead letter's cause is %q, want 2 deliveries", cause)
		}
	case <-ran:
		t.Error("after 2 deliveries the message had an effect, want a dead letter")
	case <-time.After(time.Minute):
		t.Error("the message did not become a dead letter")
	}
}

// What had its effect, and was never acknowledged, is no dead letter however often it was delivered. What was beside it is.
func TestWhatHadItsEffectIsNotBuried(t *testing.T) {
	w := newWorld(t)
	w.publish(t, core.Message{ID: "done"}, core.Message{ID: "beside"})
	if err := w.Consumer.Settle(t.Context(), core.Message{ID: "done", Topic: w.queue}, effect); err != nil {
		t.Fatal(err)
	}
	w.kill(t, 16, 2)
	dead, err := w.channel.Consume(w.dead, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop := inboxtest.Running(t, w.loop(t, w.url, 1, effect)) // in order
	select {
	case d := <-dead:
		if d.MessageId != "beside" {
			t.Errorf("the dead letter is %q, want the one without an effect", d.MessageId)
		}
	case <-time.After(time.Minute):
		t.Error("the message beside it did not become a dead letter")
	}
	stop()
	w.ExpectOnce(t, "done")
}

// A dead letter that nothing accepts ends Run: the message stays where it is, and somebody is told.
func TestARefusedDeadLetterEndsRun(t *testing.T) {
	w := newWorld(t)
	w.Shop = inboxtest.New(t, refusing{}, "nowhere")
	w.publish(t, core.Message{ID: "poison", Headers: map[string]string{"poison": "yes"}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := w.loop(t, w.url, 1, effect).Run(ctx); !errors.Is(err, core.ErrPermanent) {
		t.Errorf("Run: got %v, want the refusal", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	deliveries, err := w.channel.ConsumeWithContext(ctx, w.queue, "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d, open := <-deliveries; !open || d.MessageId != "poison" {
		t.Errorf("the queue gives %q, want the message that was not settled", d.MessageId)
	}
}

type refusing struct{}

func (refusing) Publish(context.Context, []core.Message) error { return core.ErrPermanent }

func TestConfigSaysAllAtOnce(t *testing.T) {
	err := amqp.Config{URLs: []string{"amqp://user:secret%@host"}, Prefetch: -1, MaxDeliveries: -1}.Validate()
	for _, field := range []string{"URLs[0]", "Queue", "Prefetch", "MaxDeliveries"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
	if err != nil && strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, which holds the password", err)
	}
}

// 65536 has no bits left in the 16 that AMQP has: RabbitMQ would send all that the queue holds.
func TestAPrefetchThatWouldBeNoneIsRefused(t *testing.T) {
	config := amqp.Config{URLs: []string{"amqp://host"}, Queue: "q", Prefetch: 65536}
	if err := config.Validate(); err == nil || !strings.Contains(err.Error(), "Prefetch is 65536: it must be at most 65535") {
		t.Errorf("got %v, want an error about the prefetch", err)
	}
	config.Prefetch = 65535
	if err := config.Validate(); err != nil {
		t.Errorf("the largest prefetch: %v", err)
	}
}
