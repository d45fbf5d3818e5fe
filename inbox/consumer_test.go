package inbox_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/inbox"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func (l *ledger) consumer(t testing.TB, g *grave) *inbox.Consumer {
	t.Helper()
	return newConsumer(t, l.box, l.dialect.DB(), g)
}

func newConsumer(t testing.TB, box *inbox.Inbox, db core.Beginner, g *grave) *inbox.Consumer {
	t.Helper()
	c, err := inbox.NewConsumer(box, db, "billing", inbox.ConsumerConfig{
		DeadLetters: g, DeadLetterTopic: "orders.dead", RetryDelay: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tooLong is an id that no inbox takes, and no other table of ours.
var tooLong = strings.Repeat("x", core.MaxIDBytes+1)

var order = core.Message{ID: "a", Topic: "orders", Key: "42", Headers: map[string]string{"type": "OrderPlaced"}, Payload: []byte("{}")}

func TestSettle(t *testing.T) {
	fault := errors.New("out of stock")
	for name, tt := range map[string]struct {
		message  core.Message
		effect   func(run int) error
		runs     int
		times    int
		attempts string // of the dead letter; empty where there is none
		cause    string
	}{
		"works":             {message: order, effect: func(int) error { return nil }, runs: 1, times: 1},
		"fails at first":    {message: order, effect: func(run int) error { return onlyIf(run < 5, fault) }, runs: 5, times: 1},
		"fails always":      {message: order, effect: func(int) error { return fault }, runs: 5, attempts: "5", cause: "out of stock"},
		"panics always":     {message: order, effect: func(int) error { panic("at the disco") }, runs: 5, attempts: "5", cause: "at the disco"},
		"is permanent":      {message: order, effect: func(int) error { return errors.Join(fault, core.ErrPermanent) }, runs: 1, attempts: "1", cause: "out of stock"},
		"needs what's away": {message: order, effect: func(run int) error { return onlyIf(run < 12, core.ErrUnavailable) }, runs: 12, times: 1},
		"has no id":         {message: core.Message{Topic: "orders"}, effect: func(int) error { return nil }, attempts: "0", cause: "no usable id"},
		"has a long id":     {message: core.Message{ID: tooLong, Topic: "orders"}, effect: func(int) error { return nil }, attempts: "0", cause: "longer than 255 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			l, g, runs := newLedger(t), &grave{}, 0
			err := l.consumer(t, g).Settle(t.Context(), tt.message, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
				runs++
				if err := add(ctx, tx, m.ID); err != nil {
					t.Error(err)
				}
				return tt.effect(runs)
			})
			if err != nil {
				t.Fatal(err)
			}
			if n := l.times(t, tt.message.ID); runs != tt.runs || n != tt.times {
				t.Errorf("the effect ran %d times and is there %d times, want %d and %d", runs, n, tt.runs, tt.times)
			}
			dead := g.letters()
			if (tt.attempts == "") != (len(dead) == 0) || len(dead) > 1 {
				t.Fatalf("dead letters: got %d", len(dead))
			}
			if len(dead) == 0 {
				return
			}
			d := dead[0]
			if d.Topic != "orders.dead" || d.Key != tt.message.Key || string(d.Payload) != string(tt.message.Payload) ||
				d.ID == "" || len(d.ID) > core.MaxIDBytes || tt.message.ID == order.ID && d.ID != order.ID || d.Headers["type"] != tt.message.Headers["type"] {
				t.Errorf("the dead letter is %+v, want what %+v was", d, tt.message)
			}
			if d.Headers[inbox.AttemptsHeader] != tt.attempts || !strings.Contains(d.Headers[inbox.CauseHeader], tt.cause) ||
				d.Headers[inbox.TopicHeader] != "orders" || d.Headers[inbox.ConsumerHeader] != "billing" {
				t.Errorf("the dead letter says %q, want %s attempts and the cause %q", d.Headers, tt.attempts, tt.cause)
			}
			if len(order.Headers) != 1 {
				t.Error("the message's own headers were changed")
			}
		})
	}
}

// What an effect does to its message neither the next attempt nor the dead letter shows.
func TestTheEffectHasACopyOfTheMessage(t *testing.T) {
	l, g := newLedger(t), &grave{}
	m := core.Message{ID: "a", Topic: "orders", Headers: map[string]string{"type": "OrderPlaced"}, Payload: []byte("{}")}
	err := l.consumer(t, g).Settle(t.Context(), m, func(_ context.Context, _ *sql.Tx, m core.Message) error {
		if string(m.Payload) != "{}" || m.Headers["type"] != "OrderPlaced" {
			t.Errorf("an attempt got %q, %v", m.Payload, m.Headers)
		}
		m.Payload[0] = '!'
		delete(m.Headers, "type")
		return errors.New("no")
	})
	if err != nil || len(g.letters()) != 1 {
		t.Fatalf("got %v and %d dead letters, want one", err, len(g.letters()))
	}
	if d := g.letters()[0]; string(d.Payload) != "{}" || d.Headers["type"] != "OrderPlaced" {
		t.Errorf("the dead letter is %+v, want it as it was delivered", d)
	}
}

// Bury takes the inbox's word for what had its effect, waits for it where it has none yet, and needs none without an id.
func TestBuryAsksTheInboxFirst(t *testing.T) {
	l, g, away := newLedger(t), &grave{}, 3
	consumer := newConsumer(t, l.box, beginner(func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
		if away > 0 {
			away--
			return nil, errors.New("the database is away")
		}
		return l.dialect.DB().BeginTx(ctx, opts)
	}), g)
	if err := l.box.Handle(t.Context(), l.dialect.DB(), "billing", "a", func(context.Context, *sql.Tx) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := consumer.Bury(t.Context(), order, errors.New("why")); err != nil || len(g.letters()) != 0 || away != 0 {
		t.Errorf("a message that had its effect: got %v and %d dead letters, want none", err, len(g.letters()))
	}
	for i, id := range []string{"b", ""} {
		if err := consumer.Bury(t.Context(), core.Message{ID: id, Topic: "orders"}, errors.New("why")); err != nil || len(g.letters()) != i+1 {
			t.Errorf("the message %q: got %v and %d dead letters, want %d", id, err, len(g.letters()), i+1)
		}
	}
	away = 1 << 30
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := consumer.Bury(ctx, core.Message{ID: "c", Topic: "orders"}, errors.New("why")); err == nil || len(g.letters()) != 2 {
		t.Errorf("without a database: got %v and %d dead letters, want an error and two", err, len(g.letters()))
	}
	away, runs := 0, 0
	err := l.box.Handle(t.Context(), l.dialect.DB(), "billing", "b", func(context.Context, *sql.Tx) error { runs++; return nil })
	if err != nil || runs != 1 {
		t.Errorf("a dead letter, sent again: got %v and %d effects, want one: asking notes nothing", err, runs)
	}
}

func onlyIf(condition bool, err error) error {
	if condition {
		return err
	}
	return nil
}

// A message that cannot be buried is not settled: it does not disappear.
func TestADeadLetterIsStoredOrTheMessageStays(t *testing.T) {
	fault := func(context.Context, *sql.Tx, core.Message) error { return core.ErrPermanent }
	l := newLedger(t)
	away := &grave{answer: func(try int) error { return onlyIf(try < 8, core.ErrUnavailable) }}
	if err := l.consumer(t, away).Settle(t.Context(), order, fault); err != nil || len(away.letters()) != 1 {
		t.Errorf("dead letters away for a while: got %v and %d letters, want one", err, len(away.letters()))
	}
	never := &grave{answer: func(int) error { return core.ErrPermanent }}
	if err := l.consumer(t, never).Settle(t.Context(), order, fault); !errors.Is(err, core.ErrPermanent) {
		t.Errorf("a dead letter that is refused for good: got %v, want an error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := &grave{answer: func(try int) error {
		if try == 3 {
			cancel()
		}
		return core.ErrUncertain
	}}
	if err := l.consumer(t, stopped).Settle(ctx, order, fault); err == nil {
		t.Error("a message that was neither handled nor buried is settled")
	}
}

// The database is away, before and in the midst of an effect: nothing is counted, and it goes on by itself.
func TestAnOutageOfTheDatabaseCountsNothing(t *testing.T) {
	dsn := servers.PostgresSchema(t)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := conformance.NewProxy(u.Host, conformance.ProxyConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	u.Host = proxy.Addr()
	box, direct := onPostgres(t, dsn)
	if _, err := direct.ExecContext(t.Context(), `CREATE TABLE effects (id text PRIMARY KEY, n int NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.OpenDB(u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	g, tries := &grave{}, 0
	consumer := newConsumer(t, box, beginner(func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
		if tries++; tries > 12 { // more than MaxAttempts
			proxy.Up()
		}
		return db.BeginTx(ctx, opts)
	}), g)

	proxy.Down()
	runs := 0
	err = consumer.Settle(t.Context(), order, func(ctx context.Context, tx *sql.Tx, m core.Message) error {
		if runs++; runs <= 8 {
			proxy.Cut()
		}
		return add(ctx, tx, m.ID)
	})

	if err != nil || len(g.letters()) != 0 {
		t.Errorf("got %v and %d dead letters, want none: the database was away", err, len(g.letters()))
	}
	if n := times(t, direct, order.ID); n != 1 || runs != 9 || tries < 13 {
		t.Errorf("the effect is there %d times after %d runs and %d tries, want once, 9, and some more", n, runs, tries)
	}
}

// onPostgres returns the inbox of a schema, and a pool of connections to it.
func onPostgres(t *testing.T, dsn string) (*inbox.Inbox, *sql.DB) {
	t.Helper()
	d, err := postgres.Open(dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.MigrateInbox(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := postgres.OpenDB(dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return box, db
}

type beginner func(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error)

func (b beginner) BeginTx(ctx context.Context, opts *sql.TxOptions) (*sql.Tx, error) {
	return b(ctx, opts)
}

func TestConsumerConfigSaysAllAtOnce(t *testing.T) {
	err := inbox.ConsumerConfig{MaxAttempts: -1, RetryDelay: -1, EffectTimeout: -1}.Validate()
	for _, field := range []string{"DeadLetters", "DeadLetterTopic", "MaxAttempts", "RetryDelay", "EffectTimeout"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("got %v, want it to name %s", err, field)
		}
	}
}
