package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// settled waits until the outbox is empty, and stops the relays gracefully.
func (s *scenario) settled() error {
	if err := s.awaitStats("an empty outbox", func(st core.Stats) bool { return st.Pending.N == 0 && st.Delayed.N == 0 }); err != nil {
		return err
	}
	return s.stopRelays()
}

func (s *scenario) stopRelays() error {
	var errs []error
	for _, p := range s.processes {
		errs = append(errs, p.stopped(s.ctx))
	}
	return errors.Join(errs...)
}

// statsPause is between two looks at the stats, each of which takes a session of its own.
const statsPause = 25 * time.Millisecond

// awaitStats waits for stats that are as enough wants them, and tells the last ones where they never are.
func (s *scenario) awaitStats(what string, enough func(core.Stats) bool) error {
	var last core.Stats
	var failure error
	err := polled(s.ctx, pairPatience, statsPause, what, func() (bool, error) {
		limited, cancel := context.WithTimeout(s.ctx, waitLimit)
		defer cancel()
		if last, failure = s.operator.Stats(limited); failure != nil {
			return false, nil // the database may be coming back
		}
		return enough(last), nil
	})
	if err != nil {
		failed, buried := s.attempts()
		return fmt.Errorf("%w; the outbox's stats are %+v (%v); %d attempts were counted, %d messages buried", err, last, failure, failed, buried)
	}
	return nil
}

// delivered is what a consumer finds in the topic, without what it has seen before.
type delivered struct {
	first      []core.Message // by id, in the order in which each key's first occurrences stand
	ids        map[string]bool
	duplicates int
}

// consume reads the whole topic. It holds at least so many messages.
func (s *scenario) consume(atLeast int) (delivered, error) {
	stored, err := s.stored(atLeast)
	d := delivered{ids: map[string]bool{}}
	for _, m := range stored {
		if d.ids[m.ID] {
			d.duplicates++
			continue
		}
		d.ids[m.ID] = true
		d.first = append(d.first, m)
	}
	return d, err
}

// probing is how long a message that may not exist is looked for.
const probing = 500 * time.Millisecond

// stored reads the topic to its end, as far as that can be known.
func (s *scenario) stored(atLeast int) ([]core.Message, error) {
	if s.broker.Stored != nil {
		return s.broker.Stored(s.ctx)
	}
	msgs, err := s.read(atLeast)
	if err != nil {
		return nil, err
	}
	for step := 1; step > 0; {
		limited, cancel := context.WithTimeout(s.ctx, probing)
		more, err := s.broker.Read(limited, len(msgs)+step)
		cancel()
		if err != nil {
			step /= 2
			continue
		}
		msgs, step = more, step*2
	}
	return msgs, nil
}

// read reads as many messages as the topic must hold.
func (s *scenario) read(n int) ([]core.Message, error) {
	msgs, err := s.broker.awaitFor(s.ctx, inTheEnd, n)
	if err != nil {
		return nil, fmt.Errorf("read the %d messages that the topic must hold: %w", n, err)
	}
	return msgs, nil
}

// resolved finds out what became of the transactions whose COMMIT had no answer, where the application has rows.
func (s *scenario) resolved() error {
	if s.table == "" || len(s.unknown) == 0 {
		return nil
	}
	rows, err := s.DB.QueryContext(s.ctx, "SELECT id FROM "+s.table)
	if err != nil {
		return fmt.Errorf("read the application's rows: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if w, ok := s.unknown[id]; ok {
			s.committed[id] = w
		}
	}
	s.unknown = nil
	return rows.Err()
}

// promised compares what a consumer finds with what was committed. except holds the ids of events that must not have
// arrived, although they were committed.
func (s *scenario) promised(except ...string) (delivered, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.resolved(); err != nil {
		return delivered{}, err
	}
	if len(s.committed) == 0 {
		return delivered{}, errors.New("nothing was committed, so nothing was tested")
	}
	d, err := s.consume(len(s.committed) - len(except))
	if err != nil {
		return d, err
	}
	return d, errors.Join(s.complete(d, except), s.inOrder(d))
}

// complete holds the deliveries against the commits.
func (s *scenario) complete(d delivered, except []string) error {
	var lost, invented, changed []string
	for id, w := range s.committed {
		if !d.ids[id] && !slices.Contains(except, id) {
			lost = append(lost, fmt.Sprintf("%s (event %d of %s)", id, w.seq, w.key))
		}
	}
	for _, m := range d.first {
		w, ok := s.committed[m.ID]
		if !ok {
			w, ok = s.unknown[m.ID]
		}
		switch {
		case !ok || slices.Contains(except, m.ID):
			invented = append(invented, m.ID)
		case m.Key != w.key || string(m.Payload) != payloadOf(w.key, w.seq) || m.Headers["seq"] != fmt.Sprint(w.seq):
			changed = append(changed, brief(m))
		}
	}
	return errors.Join(some("events were committed and never arrived", lost),
		some("events arrived that were never committed, or must not arrive", invented),
		some("events arrived and are not what was enqueued", changed))
}

// inOrder looks at the first occurrences of each key.
func (s *scenario) inOrder(d delivered) error {
	last := map[string]int{}
	var wrong []string
	for _, m := range d.first {
		w, ok := s.committed[m.ID]
		if !ok || m.Key == "" {
			continue
		}
		if w.seq < last[m.Key] {
			wrong = append(wrong, fmt.Sprintf("event %d of key %s behind event %d", w.seq, m.Key, last[m.Key]))
		}
		last[m.Key] = max(w.seq, last[m.Key])
	}
	return some("first occurrences are out of order", wrong)
}

// some is an error that counts list and shows the beginning.
func some(what string, list []string) error {
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return fmt.Errorf("%d %s: %q", len(list), what, list[:min(3, len(list))])
}

// kept is the end of most checks: everything is delivered, the relays stop, and the promises hold.
func (s *scenario) kept() error {
	if err := s.settled(); err != nil {
		return err
	}
	_, err := s.promised()
	return err
}
