package core

import (
	"cmp"
	"slices"
	"time"
)

const (
	// lonelyCalls bounds the calls with one message each that run beside the lanes, and topicCalls those of one topic: one
	// that hangs must leave room for the others.
	lonelyCalls = 16
	topicCalls  = 12
	// probeCalls bounds the calls of a topic that is held: so many may hang by their message's own fault before the rest has
	// to wait for them.
	probeCalls = 4
)

// aside holds what travels beside the lanes' batches, by topic.
type aside struct {
	waiting map[string][]*keyQueue // keys whose next message travels alone
	flying  map[string]int         // calls under way, probes' among them
	served  map[string]int64       // the number of the latest call
}

func newAside() *aside {
	return &aside{waiting: map[string][]*keyQueue{}, flying: map[string]int{}, served: map[string]int64{}}
}

// add puts q, whose next message travels alone, at the end of its topic's.
func (a *aside) add(q *keyQueue) {
	a.waiting[q.key.topic] = append(a.waiting[q.key.topic], q)
	q.listed = true
	q.lane.aside++
}

// pop takes the first of topic out.
func (a *aside) pop(topic string) *keyQueue {
	q := a.waiting[topic][0]
	if a.waiting[topic] = a.waiting[topic][1:]; len(a.waiting[topic]) == 0 {
		delete(a.waiting, topic)
	}
	q.listed = false
	q.lane.aside--
	return q
}

// first returns topic's next; nil where there is none. What was dropped or marked in the meantime finds its place.
func (a *aside) first(topic string) *keyQueue {
	for len(a.waiting[topic]) > 0 {
		q := a.waiting[topic][0]
		if len(q.waiting) > 0 && q.waiting[0].alone {
			return q
		}
		a.pop(topic)
		q.lane.list(q)
	}
	return nil
}

// inTurn sorts topics: those with the fewest calls under way first, and then those that have waited longest.
func (a *aside) inTurn(topics []string) []string {
	slices.SortFunc(topics, func(s, t string) int {
		return cmp.Or(cmp.Compare(a.flying[s], a.flying[t]), cmp.Compare(a.served[s], a.served[t]), cmp.Compare(s, t))
	})
	return slices.Compact(topics)
}

// startLonely starts calls beside the lanes' batches, the topics taking turns.
func (e *engine) startLonely(now time.Time) {
	for e.lonely < lonelyCalls {
		start := e.nextLonely(now)
		if start == nil {
			return
		}
		start()
	}
}

// nextLonely returns what starts the next such call; nil where there is none.
func (e *engine) nextLonely(now time.Time) (start func()) {
	if len(e.probes)+len(e.aside.waiting) == 0 {
		return nil
	}
	topics := make([]string, 0, len(e.probes)+len(e.aside.waiting))
	for topic := range e.probes {
		topics = append(topics, topic)
	}
	for topic := range e.aside.waiting {
		topics = append(topics, topic)
	}
	for _, topic := range e.aside.inTurn(topics) {
		if e.aside.flying[topic] >= topicCalls {
			return nil // and so have the rest
		}
		h, q := e.dueProbe(topic, now), e.aside.first(topic)
		switch {
		case q != nil && (h == nil || e.began%2 == 0): // neither kind starves the other
			return func() { e.callAside(now, q) }
		case h != nil:
			return func() { e.startProbe(now, h) }
		}
	}
	return nil
}

// callAside starts the call of q's next message, which travels alone.
func (e *engine) callAside(now time.Time, q *keyQueue) {
	e.aside.pop(q.key.topic)
	e.call(now, q.lane, []*item{q.take()}, true)
}

func (e *engine) startProbe(now time.Time, h *hold) {
	h.flying = true
	if t := e.topics[h.probe.key.topic]; t != nil {
		wait := probeDelay(t.tries)
		if e.aside.flying[h.probe.key.topic] > 0 {
			wait = max(wait, e.config.PublishTimeout/probeCalls) // all of them hang: the end of that is noticed before each has timed out
		}
		t.next = now.Add(wait)
		t.tries++
	}
	e.call(now, h.probe.lane, []*item{h.probe}, true)
}

// dueProbe returns the hold of topic whose message has waited longest to be tried again; nil where none is due. Of a topic that
// is held, few are tried at a time, and not all at once.
func (e *engine) dueProbe(topic string, now time.Time) (first *hold) {
	if t := e.topics[topic]; t != nil && t.untilAlive && (now.Before(t.next) || e.aside.flying[topic] >= probeCalls) {
		return nil
	}
	for _, h := range e.probes[topic] {
		if !h.flying && !h.due.After(now) && (first == nil || compareProbes(h, first) < 0) {
			first = h
		}
	}
	return first
}

func compareProbes(a, b *hold) int {
	return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.probe.record.Position, b.probe.record.Position))
}
