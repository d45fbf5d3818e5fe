package conformance

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var pairOrderChecks = []check[pair]{
	{"pair-hot-key", "the events of one busy key arrive in enqueue order", pairHotKey},
	{"pair-many-keys", "events of many keys, and events without one, all arrive, each key's in enqueue order", pairManyKeys},
	{"pair-refusals", "a key's next event is sent only when the one before it, refused and tried again, is stored", pairRefusals},
	{"pair-takeover", "two relays at work at the same time keep each key's order: what the later one sends again is a duplicate", pairTakeover},
}

var pairElsewhereChecks = []check[pair]{
	{"pair-takeover-overlap", "the publish calls of two processes' relays may overlap: nothing is lost, and each key's order is kept", pairTakeoverOverlap},
}

func pairHotKey(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.startRelay(nil)
		return s.underLoad(loadPlan{keys: 1, pace: time.Millisecond}, func() error { return s.committing(s.times(100)) })
	})
}

func pairManyKeys(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		for n := range s.times(50) { // a backlog, most of it without a key
			m := s.message("", n)
			if err := s.commit(ctx, m, n); err != nil {
				return err
			}
		}
		s.startRelay(nil)
		return s.underLoad(loadPlan{keys: 200, pace: 2 * time.Millisecond}, func() error { return s.committing(s.times(150)) })
	})
}

// pairRefusals makes the broker refuse every third event up to three times, in the way of ordinary failures. Relays
// replace each other meanwhile: what one of them held back in memory, the next one has to find in the database.
func pairRefusals(ctx context.Context, p pair) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		s.config.Failures.FirstDelay, s.config.Failures.MaxDelay = 300*time.Millisecond, 300*time.Millisecond
		s.config.LeaseTTL = inTheEnd // a relay that is stopped notes its failures, also on a slow machine, while its term lasts
		refuse := refusing(refusingSome())
		relay := s.startRelay(refuse)
		err := s.underLoad(loadPlan{keys: 10}, func() error {
			for range s.times(3) {
				failed, _ := s.attempts()
				err := s.await("attempts that are counted", func() bool { now, _ := s.attempts(); return now >= failed+3 })
				if err != nil {
					return err
				}
				if err := relay.stopped(ctx); err != nil {
					return err
				}
				relay = s.startRelay(refuse)
			}
			return nil
		})
		if _, buried := s.attempts(); buried > 0 {
			err = errors.Join(err, fmt.Errorf("messages were refused three times at most, and %d were buried", buried))
		}
		return err
	})
}

// refusingSome refuses a third of all events, by their ids, one to three times.
func refusingSome() func(m *core.Message) error {
	var mu sync.Mutex
	refused := map[string]uint32{}
	return func(m *core.Message) error {
		h := fnv.New32a()
		h.Write([]byte(m.ID))
		mu.Lock()
		defer mu.Unlock()
		if h.Sum32()%3 == 0 && refused[m.ID] < 1+h.Sum32()/3%3 {
			refused[m.ID]++
			return errRefused
		}
		return nil
	}
}

// pairTakeover takes the lease away from a relay that is alive and goes on until it looks at the lease again. The relays' calls
// take turns, so that they may share a Broker.
func pairTakeover(ctx context.Context, p pair) error { return p.takeover(ctx, turns()) }

// pairTakeoverOverlap is pairTakeover with a Broker for each relay, as two processes have it, and calls at the same time.
func pairTakeoverOverlap(ctx context.Context, p pair) error {
	return p.takeover(ctx, func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		return inner.Publish(ctx, msgs)
	})
}

func (p pair) takeover(ctx context.Context, turn publishFunc) error {
	return p.scenarioOf(ctx, func(s *scenario) error {
		var one, other atomic.Int64
		counting := func(n *atomic.Int64) publishFunc {
			return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
				n.Add(1)
				pause(ctx, 10*time.Millisecond)
				return turn(ctx, inner, msgs)
			}
		}
		s.config.LeaseTTL = 2 * time.Second
		s.startRelay(counting(&one))
		s.startRelay(counting(&other))
		return s.underLoad(loadPlan{keys: 10}, func() error {
			bothWork := func() bool { return one.Load() > 0 && other.Load() > 0 }
			// Either relay may take what is free, the one that had it included, also several times in a row.
			for n := 0; n < s.times(3) || !bothWork() && n < s.times(3)+mostThefts; n++ {
				if _, err := s.leader(); err != nil {
					return err
				}
				if err := s.committing(10); err != nil {
					return err
				}
				if err := s.session(ctx, s.steal); err != nil {
					return err
				}
				if err := s.session(ctx, s.taken); err != nil {
					return err
				}
			}
			return s.await("both relays at work", bothWork)
		})
	})
}

// turns makes calls of several relays take turns, as they have to where they share a Broker: an adapter is promised that no two calls hold
// messages of a key at the same time, and it is one process's relay that keeps that.
func turns() publishFunc {
	free := make(chan struct{}, 1)
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		select {
		case free <- struct{}{}:
			defer func() { <-free }()
			return inner.Publish(ctx, msgs)
		case <-ctx.Done():
			return core.ErrUnavailable
		}
	}
}

// mostThefts is how many thefts more are tried until both relays have worked.
const mostThefts = 20

// taken returns when a relay has the lease.
func (s *scenario) taken(session core.Session) error {
	return within(s.ctx, pairPatience, "a relay that takes the lease", func() (bool, error) {
		lease, err := session.ReadLease(s.ctx)
		return err == nil && lease.Holder != "", err
	})
}

// steal takes the lease and gives it up at once, so that any relay may have it.
func (s *scenario) steal(session core.Session) error {
	return eventually(s.ctx, "a lease that can be taken as it was seen", func() (bool, error) {
		seen, err := session.ReadLease(s.ctx)
		if err != nil {
			return false, err
		}
		taken, err := session.TakeLease(s.ctx, seen, "thief", time.Second)
		if err != nil || !taken {
			return false, err
		}
		return true, session.ReleaseLease(s.ctx, "thief", seen.Epoch+1)
	})
}
