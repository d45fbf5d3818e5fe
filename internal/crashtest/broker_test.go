package crashtest

import (
	"context"
	"os"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/core"
)

// lingering is how long a call that waits for SIGTERM goes on after it: a relay that did not wait for it would be gone.
const lingering = 300 * time.Millisecond

// watching is the broker of a child: it reports, and stops at the plan's point.
type watching struct {
	broker  core.Broker
	plan    relayPlan
	stop    context.Context // ends with SIGTERM
	calls   atomic.Int64
	there   atomic.Bool // a call has reached the point behind the answer
	running atomic.Int64
}

func (w *watching) Publish(ctx context.Context, msgs []core.Message) error {
	return w.publish(ctx, w.broker, msgs)
}

// ForTerm implements core.TermBroker.
func (w *watching) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	fencer, ok := w.broker.(core.TermBroker)
	if !ok {
		return w, nil
	}
	broker, err := fencer.ForTerm(ctx, term)
	if err != nil {
		return nil, err
	}
	return watchingTerm{w, broker}, nil
}

// watchingTerm is watching during a term.
type watchingTerm struct {
	watching *watching
	broker   core.Broker
}

func (w watchingTerm) Publish(ctx context.Context, msgs []core.Message) error {
	return w.watching.publish(ctx, w.broker, msgs)
}

func (w *watching) publish(ctx context.Context, broker core.Broker, msgs []core.Message) error {
	if slices.ContainsFunc(msgs, func(m core.Message) bool { return m.ID == w.plan.Killer }) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	w.running.Add(1)
	defer w.running.Add(-1)
	number := w.calls.Add(1)
	if number == w.plan.OnCall && w.plan.Point == beforePublish {
		arrive(msgs)
		select {} // until SIGKILL
	}
	if w.plan.Slow > 0 {
		say(report{What: begun})
	}
	err := broker.Publish(ctx, msgs)
	if w.plan.Slow > 0 {
		time.Sleep(w.plan.Slow) // a slow broker
	}
	if err != nil {
		return err
	}
	// A later one, where that call had no answer: its lease may have ended.
	here := number >= w.plan.OnCall && w.plan.OnCall > 0 && w.there.CompareAndSwap(false, true)
	if here && w.plan.Point == afterAnswer {
		arrive(msgs)
		select {}
	}
	if here && w.plan.Point == untilStopped {
		arrive(msgs)
		<-w.stop.Done()
		time.Sleep(lingering) // the call ends after the signal
	}
	say(report{What: stored, N: len(msgs)})
	return nil
}

func arrive(msgs []core.Message) {
	r := report{What: arrived}
	for _, m := range msgs {
		r.IDs = append(r.IDs, m.ID)
	}
	say(r)
}

// nothing is a broker that takes everything and keeps nothing.
type nothing struct{}

func (nothing) Publish(context.Context, []core.Message) error { return nil }

// deleteFirst breaks promise 2: it removes the events, then publishes them.
type deleteFirst struct {
	broker core.Broker
	db     *sqlx.DB
}

func newDeleteFirst(broker core.Broker, dsn string) (*deleteFirst, error) {
	db, err := sqlx.Open("postgres", dsn)
	if err != nil {
		return nil, err
	}
	return &deleteFirst{broker, db}, nil
}

func (d *deleteFirst) Publish(ctx context.Context, msgs []core.Message) error {
	var ids []string
	for _, m := range msgs {
		ids = append(ids, m.ID)
	}
	if _, err := d.db.ExecContext(ctx, `DELETE FROM outbox WHERE id = ANY($1)`, pq.Array(ids)); err != nil {
		return err
	}
	return d.broker.Publish(ctx, msgs)
}
