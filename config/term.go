package config

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/core"
)

// ForTerm implements [core.TermBroker] for those that can shut out earlier owners. The others need no term. Where one is away the
// term begins at the others, and there with the first messages that it takes; where all are, it does not begin.
func (r *router) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	places := r.places()
	brokers, failed := make([]core.Broker, len(places)), make([]error, len(places))
	var beginning sync.WaitGroup
	for i, p := range places {
		brokers[i] = p.broker
		if fencer, fences := p.broker.(core.TermBroker); fences { // side by side: one that hangs takes all the time there is
			beginning.Go(func() { brokers[i], failed[i] = beginTerm(ctx, fencer, term) })
		}
	}
	beginning.Wait()
	if err := errors.Join(failed...); errors.Is(err, core.ErrFenced) || !slices.Contains(failed, nil) {
		return nil, err
	}
	begun := map[*place]*place{}
	for i, p := range places {
		if failed[i] != nil {
			brokers[i] = &lateTerm{broker: p.broker, fencer: p.broker.(core.TermBroker), term: term}
		}
		begun[p] = &place{brokers[i]}
	}
	routes := make([]route, len(r.routes))
	for i, from := range r.routes {
		routes[i] = route{from.topics, begun[from.to]}
	}
	return newRouter(routes, begun[r.rest]), nil
}

// beginTerm contains a panic, which on a goroutine of ours nobody else could.
func beginTerm(ctx context.Context, fencer core.TermBroker, term core.Term) (begun core.Broker, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%T panicked: %v", fencer, p)
		}
	}()
	return fencer.ForTerm(ctx, term)
}

// lateTerm is a broker at which a term could not begin with the others. Nothing is sent to it before the term has begun there as
// well: what earlier owners have under way is shut out first.
type lateTerm struct {
	broker core.Broker // which is the fencer
	fencer core.TermBroker
	term   core.Term

	beginning sync.Mutex
	begun     atomic.Pointer[place] // of the term; nil before it has begun
}

// Unwrap lets the relay find what the broker can do.
func (l *lateTerm) Unwrap() core.Broker { return l.broker }

// Publish implements [core.Broker].
func (l *lateTerm) Publish(ctx context.Context, msgs []core.Message) error {
	if l.begun.Load() == nil {
		if err := l.begin(ctx); err != nil {
			return err
		}
	}
	return l.begun.Load().broker.Publish(ctx, msgs)
}

// begin begins the term. While one call does so, the others are told that the broker is unavailable, which it is: they would do it
// again, one after another.
func (l *lateTerm) begin(ctx context.Context) error {
	if !l.beginning.TryLock() {
		return fmt.Errorf("%w: the term is about to begin at the broker", core.ErrUnavailable)
	}
	defer l.beginning.Unlock()
	if l.begun.Load() != nil {
		return nil
	}
	broker, err := beginTerm(ctx, l.fencer, l.term)
	switch {
	case errors.Is(err, core.ErrFenced):
		return err
	case err != nil:
		return fmt.Errorf("%w: begin the term at the broker: %w", core.ErrUnavailable, err)
	}
	l.begun.Store(&place{broker})
	return nil
}
