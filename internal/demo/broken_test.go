package demo

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// Services that get Lockstep wrong, to see that the counts show it. Black-box tests reach them by [WithService].
const (
	EnqueueAfterCommit = "enqueue_after_commit"
	EnqueueBeforeBegin = "enqueue_before_begin"
	NoConfirmation     = "no_confirmation"
	NewIDEachTime      = "new_id_each_time"
	FailingService     = "failing_service"
	FailingRelay       = "failing_relay"
)

func init() {
	brokenServices = []service{
		{name: EnqueueAfterCommit, place: enqueueAfterCommit, relay: true},
		{name: EnqueueBeforeBegin, place: enqueueBeforeBegin, relay: true},
		{name: NoConfirmation, place: lockstep, relay: true, relayBroker: func(b core.Broker) core.Broker {
			return carelessBroker{b}
		}},
		{name: NewIDEachTime, place: lockstep, relay: true, relayDialect: func(d core.Dialect) core.Dialect {
			return brokenDialect{d, newIDEachTime}
		}},
		{name: FailingService, place: func(context.Context, *shop, order) error { panic("out of paper") }},
		{name: FailingRelay, place: lockstep, relay: true, relayDialect: func(d core.Dialect) core.Dialect {
			return brokenDialect{d, func(core.Session) (core.Session, error) { return nil, errors.New("out of toner") }}
		}},
	}
	for i := range brokenServices {
		brokenServices[i].title = brokenServices[i].name
	}
}

// WithService returns config with one service, by name, in place of the four.
func WithService(config Config, name string) Config {
	s, err := findService(name)
	if err != nil {
		panic(err)
	}
	config.services = []service{s}
	return config
}

func enqueue(ctx context.Context, s *shop, o order) error {
	return s.inTx(ctx, func(tx *sql.Tx) error {
		return s.outbox.Enqueue(ctx, tx, core.Message{Topic: s.topic, Key: o.ID, Payload: o.payload()})
	})
}

func insert(ctx context.Context, s *shop, o order) error {
	return s.inTx(ctx, func(tx *sql.Tx) error { return insertOrder(ctx, tx, o) })
}

func enqueueAfterCommit(ctx context.Context, s *shop, o order) error {
	if err := insert(ctx, s, o); err != nil {
		return err
	}
	s.crashBetweenWrites()
	return enqueue(ctx, s, o)
}

func enqueueBeforeBegin(ctx context.Context, s *shop, o order) error {
	if err := enqueue(ctx, s, o); err != nil {
		return err
	}
	s.crashBetweenWrites()
	return insert(ctx, s, o)
}

// brokenDialect breaks the relay's sessions.
type brokenDialect struct {
	core.Dialect
	wrap func(core.Session) (core.Session, error)
}

func (d brokenDialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	if err != nil {
		return nil, err
	}
	broken, err := d.wrap(s)
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return broken, nil
}

// carelessBroker takes silence for confirmation.
type carelessBroker struct{ core.Broker }

func (b carelessBroker) Publish(ctx context.Context, msgs []core.Message) error {
	_ = b.Broker.Publish(ctx, msgs) // this is what is wrong with it
	return nil
}

// renamingSession gives each message another id in each process.
type renamingSession struct {
	core.Session
	suffix string
}

func newIDEachTime(s core.Session) (core.Session, error) {
	return renamingSession{s, fmt.Sprint("@", os.Getpid())}, nil
}

func (s renamingSession) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	result, err := s.Session.Fetch(ctx, request)
	for i := range result.Records {
		result.Records[i].Message.ID += s.suffix
	}
	return result, err
}

func (s renamingSession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	var real []core.Ref
	for _, ref := range refs {
		real = append(real, core.Ref{Position: ref.Position, ID: strings.TrimSuffix(ref.ID, s.suffix)})
	}
	return s.Session.Acknowledge(ctx, real)
}
