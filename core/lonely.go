package core

import (
	"cmp"
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
	// probeTopics is how many topics can have all the probes that one of them may have.
	probeTopics = 4
)

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

// nextLonely returns what starts the next such call; nil where there is none. The topic with the fewest calls under way comes first.
func (e *engine) nextLonely(now time.Time) (start func()) {
	h, q := e.nextProbe(now), e.aside.next()
	if q != nil && e.aside.flying[q.key.topic] >= topicCalls {
		q = nil
	}
	if h != nil && q != nil {
		probes, waiting := e.aside.flying[h.key.topic], e.aside.flying[q.key.topic]
		if probes < waiting || probes == waiting && e.aside.turns%2 == 0 { // neither kind starves the other
			q = nil
		}
	}
	switch {
	case q != nil:
		return func() { e.callAside(now, q) }
	case h != nil:
		return func() { e.startProbe(now, h) }
	}
	return nil
}

// nextProbe returns the hold whose message is to be tried again next; nil where none is due.
func (e *engine) nextProbe(now time.Time) (first *hold) {
	for topic := range e.probes {
		if e.aside.flying[topic] >= topicCalls {
			continue
		}
		if h := e.dueProbe(topic, now); h != nil && (first == nil ||
			cmp.Or(cmp.Compare(e.aside.flying[topic], e.aside.flying[first.key.topic]), compareProbes(h, first)) < 0) {
			first = h
		}
	}
	return first
}

// callAside starts the call of q's next message, which travels alone.
func (e *engine) callAside(now time.Time, q *keyQueue) {
	e.aside.serve(q)
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
