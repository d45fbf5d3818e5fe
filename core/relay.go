package core

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// ErrRunning is returned by Run and RunOnce of a relay that runs already.
var ErrRunning = errors.New("the relay runs already: make another one")

// Relay is the carrying side: it takes records from the outbox to the broker, and removes them once the broker has
// them. Any number of relays may run on one outbox: one works, and the others stand by.
type Relay struct {
	dialect Dialect
	broker  Broker
	config  RelayConfig
	running atomic.Bool
	state   state
	// survived are the messages that this process marked last, in a term that it lost: it has outlived the call.
	survived []Ref
	// charged is the record that was marked when an earlier owner ended, and for which an attempt may still have to be counted.
	charged *Record
	// abandons counts the publish calls that were given up and have not returned.
	abandons atomic.Int64

	random func(time.Duration) time.Duration
	limits limits
	wall   func(time.Time) time.Time // what the wall clock showed at an instant

	unleased bool // for tests: work without a lease
}

// NewRelay returns a relay from dialect's outbox to broker. The error names every setting that is out of range.
func NewRelay(dialect Dialect, broker Broker, config RelayConfig) (*Relay, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("relay config: %w", err)
	}
	if inner := hiddenTerm(broker); inner != nil {
		return nil, fmt.Errorf("relay: %T hides that %T can shut out an earlier owner: let it implement ForTerm too", broker, inner)
	}
	return &Relay{dialect: dialect, broker: broker, config: config, random: rand.N[time.Duration], limits: usualLimits, wall: wallClock}, nil
}

// Run carries records until ctx is done, and waits as a standby while another relay holds the lease. When ctx is done it
// drains: publish calls in flight finish, what the broker stored is acknowledged, and the lease is released; then it
// returns nil, or an error that is a *[DrainError] by [errors.As], when that took longer than DrainTimeout, or than the term, or
// the lease was lost. Failures of the database or the broker are logged and retried for ever. [ErrAbandoned] is the one
// error that ends it earlier.
func (r *Relay) Run(ctx context.Context) error {
	if !r.running.CompareAndSwap(false, true) {
		return ErrRunning
	}
	defer r.running.Store(false)
	for ctx.Err() == nil {
		_, err := r.lead(ctx, false)
		var drain *DrainError
		switch {
		case errors.As(err, &drain), errors.Is(err, ErrAbandoned):
			return err
		case err != nil && ctx.Err() == nil:
			r.warn("lead", err)
		}
	}
	return nil
}

// RunOnce waits for the lease, carries what the outbox holds, releases the lease, and returns when nothing more is
// deliverable now. It names what is held back by failures, and the first 10 000 keys and topics that are blocked until an
// operator acts, ascending by topic and key. When ctx is done it drains, like Run; where it never had the lease it returns ctx's
// error.
func (r *Relay) RunOnce(ctx context.Context) ([]Held, error) {
	if !r.running.CompareAndSwap(false, true) {
		return nil, ErrRunning
	}
	defer r.running.Store(false)
	held, err := r.lead(ctx, true)
	if err != nil || ctx.Err() != nil {
		return sorted(held), err
	}
	blocked, err := r.blocked(ctx)
	return sorted(append(held, blocked...)), err
}

// lead runs one term: from taking the lease to losing or releasing it.
func (r *Relay) lead(ctx context.Context, once bool) ([]Held, error) {
	k := &keeper{dialect: r.dialect, holder: NewID(), ttl: r.config.LeaseTTL, wall: r.wall, warn: r.databaseFailed}
	defer k.close()
	var t *term
	if !r.unleased {
		var err error
		if t, err = k.acquire(ctx); err != nil {
			return nil, fmt.Errorf("wait for the lease: %w", err) // ctx is done, and there is nothing to drain
		}
	}
	convict, broker, err := r.begin(ctx, k, t)
	if err != nil {
		if t != nil && !errors.Is(err, errLeaseLost) {
			k.release(t)
			sleep(ctx, lastProbe)
		}
		return nil, err
	}
	work, end := context.WithCancelCause(context.WithoutCancel(ctx))
	defer end(nil)
	e := newEngine(work, &r.config, r.limits, r.dialect, broker)
	e.once, e.random, e.abandons = once, r.random, &r.abandons
	wake, unsubscribe := r.config.Waker.subscribe()
	defer unsubscribe()
	e.report = r.state.set
	defer r.state.set(RelayState{})
	if t == nil {
		err := e.run(ctx, wake, nil)
		return e.holding(), err
	}

	e.over, e.ends = t.over, t.end
	e.writer.holder, e.writer.epoch = k.holder, t.epoch
	if t.unclean >= uncleanLimit || t.suspect != (Ref{}) || convict != nil {
		r.config.Logger.Warn("lockstep: messages are published one by one, because earlier relays were killed", "relays", t.unclean)
		e.beCareful(convict)
	}
	r.config.Hooks.leading(true, t.epoch)
	defer r.config.Hooks.leading(false, t.epoch)
	listening, stopListening := context.WithCancel(work)
	defer stopListening()
	var heard, deaf <-chan struct{}
	if listener, ok := Ability[Listener](r.dialect); ok {
		heard, deaf = listen(listening, r.config.Logger, listener)
		defer func() {
			stopListening()
			<-deaf // after the lease was released: nobody waits for a connection that takes its time to end
		}()
	}
	e.due = once
	keeping, stopKeeping := context.WithCancel(work)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		if err := k.keep(keeping, t, e); err != nil {
			end(err)
		}
	}()
	err = e.run(ctx, wake, heard)
	stopKeeping()
	<-kept
	if e.caution != nil {
		r.survived = []Ref{e.caution.marked, e.caution.wanted}
	}
	if !errors.Is(err, errLeaseLost) {
		if e.caution != nil && !e.lingering {
			r.unmarkLast(k, t)
		}
		k.release(t) // also when its term is over: who outlived it, on a slow machine, was not killed
	}
	if errors.Is(err, ErrFenced) {
		sleep(ctx, lastProbe) // let the other owner be seen
	}
	return e.holding(), err
}

// begin does what comes before a term's first fetch.
func (r *Relay) begin(ctx context.Context, k *keeper, t *term) (convict *Record, broker Broker, err error) {
	if t != nil && (t.suspect != (Ref{}) || r.charged != nil) {
		if convict, err = r.judge(ctx, k, t); err != nil {
			return nil, nil, err
		}
	}
	broker, err = r.forTerm(ctx, t)
	return convict, broker, err
}

// forTerm lets a broker that can shut out earlier owners do so.
func (r *Relay) forTerm(ctx context.Context, t *term) (Broker, error) {
	fencer, ok := r.broker.(TermBroker)
	if !ok || t == nil {
		return r.broker, nil
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, t.remaining(time.Now())))
	defer cancel()
	broker, err := beginTerm(ctx, fencer, Term{Outbox: t.outbox, Epoch: t.epoch})
	if err != nil {
		return nil, fmt.Errorf("begin the term at the broker: %w", err)
	}
	return broker, nil
}

func (r *Relay) databaseFailed(doing string, err error) {
	r.warn(doing, err)
	r.config.Hooks.databaseFailed(doing, err)
}

func (r *Relay) warn(doing string, err error) {
	r.config.Logger.Warn("lockstep: "+doing+" failed and is tried again", "error", err)
}
