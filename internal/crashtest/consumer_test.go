package crashtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
	inboxamqp "github.com/lockstep-go/lockstep/inbox/amqp"
	inboxkafka "github.com/lockstep-go/lockstep/inbox/kafka"
)

// consumerPlan is what a child is told that consumes, instead of relaying.
type consumerPlan struct {
	Topic string // or the queue
	Group string // of Kafka
	// Forgetful is the mutant: an inbox that takes every message for new.
	Forgetful bool
}

// Where a consumer stops and says so. OnCall counts its effects.
const (
	midEffect   killPoint = "between the effect and its COMMIT"
	afterCommit killPoint = "between COMMIT and the acknowledgement"
)

const handling event = "handling" // the first effect was begun

// effects is what a consumer child does about orders: each counts in its row.
type effects struct {
	plan  relayPlan
	db    *sql.DB
	like  dialectOfSQL
	proxy *conformance.Proxy // before the broker
	calls atomic.Int64
}

// runConsumer is the child process: a consumer that runs until SIGTERM, or for ever once it reached its point.
func runConsumer(plan relayPlan) error {
	dialect, err := plan.Database.open(plan.DSN)
	if err != nil {
		return err
	}
	defer dialect.Close()
	e := &effects{plan: plan, like: likeOf(plan.Database)}
	if own, ok := dialect.(interface{ DB() *sql.DB }); ok {
		e.db = own.DB()
	} else {
		if e.db, err = sql.Open(e.like.driver, plan.DSN); err != nil {
			return err
		}
		defer e.db.Close()
	}
	var store core.Dialect = dialect
	if plan.Consumer.Forgetful {
		store = forgetful{dialect}
	}
	box, err := inbox.New(store, inbox.Config{})
	if err != nil {
		return err
	}
	consumer, err := inbox.NewConsumer(box, e.db, "counter", inbox.ConsumerConfig{
		DeadLetters: burying{}, DeadLetterTopic: "dead", MaxAttempts: 1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	loop, err := e.loop(consumer)
	if err != nil {
		return err
	}
	err = loop.Run(ctx)
	say(report{What: ended, Text: textOf(err)})
	return err
}

func (e *effects) loop(consumer *inbox.Consumer) (interface{ Run(context.Context) error }, error) {
	if e.plan.Kafka != "" {
		return inboxkafka.New(consumer, e.handle, inboxkafka.Config{
			Brokers: []string{e.plan.Kafka}, Group: e.plan.Consumer.Group, Topics: []string{e.plan.Consumer.Topic}, SessionTimeout: 6 * time.Second,
		})
	}
	u, err := url.Parse(e.plan.RabbitMQ)
	if err != nil {
		return nil, errors.New("no URL")
	}
	if e.proxy, err = conformance.NewProxy(u.Host, conformance.ProxyConfig{}); err != nil {
		return nil, err
	}
	u.Host = e.proxy.Addr()
	return inboxamqp.New(consumer, e.handle, inboxamqp.Config{URLs: []string{u.String()}, Queue: e.plan.Consumer.Topic, Prefetch: 4})
}

// handle is the effect: one more in the order's row.
func (e *effects) handle(ctx context.Context, tx *sql.Tx, m core.Message) error {
	call := e.calls.Add(1)
	if call == 1 {
		say(report{What: handling})
	}
	if _, err := tx.ExecContext(ctx, e.like.arguments.Replace(`UPDATE orders SET effects = effects + 1 WHERE id = $1`), m.ID); err != nil {
		return err
	}
	if call != e.plan.OnCall {
		return nil
	}
	switch e.plan.Point {
	case midEffect:
		arrive([]core.Message{m})
		select {} // until SIGKILL
	case afterCommit:
		e.proxy.Freeze() // nothing is acknowledged any more
		go e.sayWhenCommitted(m)
	}
	return nil
}

func (e *effects) sayWhenCommitted(m core.Message) {
	for n := 0; n == 0; {
		if err := e.db.QueryRow(e.like.arguments.Replace(`SELECT effects FROM orders WHERE id = $1`), m.ID).Scan(&n); err != nil {
			say(report{What: ended, Text: err.Error()})
			return
		}
	}
	arrive([]core.Message{m})
}

// burying reports dead letters, of which there are none: nothing here fails but by being killed.
type burying struct{}

func (burying) Publish(_ context.Context, msgs []core.Message) error {
	for _, m := range msgs {
		say(report{What: buried, IDs: []string{m.ID}, Text: fmt.Sprint(m.Headers[inbox.CauseHeader])})
	}
	return nil
}

// forgetful is a dialect whose inbox takes every message for new.
type forgetful struct{ dialect }

func (f forgetful) Receive(context.Context, core.Execer, string, string) (bool, error) {
	return true, nil
}

func (f forgetful) Forget(context.Context, time.Duration, int) (int, error) { return 0, nil }

func (f forgetful) MigrateInbox(context.Context) error { return nil }
