package demo

import (
	"context"
	"database/sql"
	"errors"

	"github.com/lockstep-go/lockstep/core"
)

// Services that get Lockstep wrong, to see that the counts show it. Black-box tests reach them by [WithService].
const (
	EnqueueAfterCommit  = "enqueue_after_commit"
	EnqueueBeforeBegin  = "enqueue_before_begin"
	DeleteBeforePublish = "delete_before_publish"
	NewIDEachTime       = "new_id_each_time"
	FailingService      = "failing_service"
	FailingRelay        = "failing_relay"
)

func init() {
	brokenServices = []service{
		{name: EnqueueAfterCommit, place: enqueueAfterCommit, relay: true},
		{name: EnqueueBeforeBegin, place: enqueueBeforeBegin, relay: true},
		{name: DeleteBeforePublish, place: lockstep, relay: true, relayDialect: func(d core.Dialect) core.Dialect {
			return brokenDialect{d, deleteBeforePublish}
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

// fetchSession is a session with another Fetch.
type fetchSession struct {
	core.Session
	fetch func(ctx context.Context, limit int) ([]core.Record, error)
	refs  map[string]core.Ref // by the id that the relay knows
}

func (s fetchSession) Fetch(ctx context.Context, limit int) ([]core.Record, error) {
	return s.fetch(ctx, limit)
}

func (s fetchSession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	var real []core.Ref
	for _, ref := range refs {
		if known, ok := s.refs[ref.ID]; ok {
			ref = known
		}
		real = append(real, ref)
	}
	return s.Session.Acknowledge(ctx, real)
}

func deleteBeforePublish(s core.Session) (core.Session, error) {
	return fetchSession{Session: s, fetch: func(ctx context.Context, _ int) ([]core.Record, error) {
		records, err := s.Fetch(ctx, 1) // one by one, so that no event is lost before it has met its own fault
		if err != nil {
			return nil, err
		}
		var refs []core.Ref
		for _, r := range records {
			refs = append(refs, r.Ref())
		}
		return records, s.Acknowledge(ctx, refs)
	}}, nil
}

func newIDEachTime(s core.Session) (core.Session, error) {
	refs := map[string]core.Ref{}
	return fetchSession{Session: s, refs: refs, fetch: func(ctx context.Context, limit int) ([]core.Record, error) {
		records, err := s.Fetch(ctx, limit)
		for i, r := range records {
			records[i].Message.ID = core.NewID()
			refs[records[i].Message.ID] = r.Ref()
		}
		return records, err
	}}, nil
}
