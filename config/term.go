package config

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/core"
)

// ForTerm implements [core.TermBroker] for those that can shut out earlier owners. The others need no term. Where one is away the
// term begins at the others, and there with the first messages that it takes; where all are, it does not begin.
func (r *router) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	begun := map[*place]*place{}
	var failures []error
	for _, p := range r.places() {
		begun[p] = p
		fencer, fences := p.broker.(core.TermBroker)
		if !fences {
			continue
		}
		broker, err := fencer.ForTerm(ctx, term)
		switch {
		case errors.Is(err, core.ErrFenced):
			return nil, err
		case err != nil:
			failures = append(failures, err)
			begun[p] = &place{&lateTerm{broker: p.broker, fencer: fencer, term: term}}
		default:
			begun[p] = &place{broker}
		}
	}
	if len(failures) == len(begun) {
		return nil, errors.Join(failures...)
	}
	routes := make([]route, len(r.routes))
	for i, from := range r.routes {
		routes[i] = route{from.topics, begun[from.to]}
	}
	return newRouter(routes, begun[r.rest]), nil
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
	broker, err := l.fencer.ForTerm(ctx, l.term)
	switch {
	case errors.Is(err, core.ErrFenced):
		return err
	case err != nil:
		return fmt.Errorf("%w: begin the term at the broker: %w", core.ErrUnavailable, err)
	}
	l.begun.Store(&place{broker})
	return nil
}
