package core

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// startCalls starts a publish call for each lane that has something to send and none in flight, and for messages that
// travel alone.
func (e *engine) startCalls(now time.Time) {
	if e.caution != nil {
		e.startCarefully(now)
		return
	}
	if e.draining || e.resetting {
		return
	}
	e.startLonely(now)
	for _, l := range e.lanes {
		if l.busy {
			continue
		}
		if batch := l.takeBatch(e.config.BatchSize, e.config.BatchBytes, e.several); len(batch) > 0 {
			l.busy = true
			e.call(now, l, batch, false)
		}
	}
}

func (e *engine) call(now time.Time, l *lane, items []*item, lonely bool) {
	ctx, cancel := context.WithTimeout(e.work, e.config.PublishTimeout)
	e.began++
	c := &call{
		items: items, lane: l, lonely: lonely, cancel: cancel, number: e.began,
		abandonAt: now.Add(e.config.PublishTimeout + abandonAfter), alive: e.alive[items[0].key.topic],
	}
	if lonely {
		e.lonely++
		e.aside.flying[items[0].key.topic]++
		e.aside.served[items[0].key.topic] = e.began
	}
	e.calls = append(e.calls, c)
	msgs := make([]Message, len(items)) // not used again: a client may go on reading it after the call
	c.msgs = msgs
	for i, it := range items {
		msgs[i] = it.record.Message
	}
	e.publishing.Go(func() {
		defer cancel()
		err := publish(ctx, e.broker, msgs)
		c.err = err
		if !c.fate.CompareAndSwap(underWay, returned) {
			e.abandons.Add(-1)
		}
		if hook := e.config.Hooks.Published; hook != nil {
			hook(PublishReport{msgs, Results(err, len(msgs)), time.Since(now)})
		}
		e.post(func() { e.published(c, err) })
	})
}

// giveUp abandons the calls that went on after their contexts ended. What they stored is unknown.
func (e *engine) giveUp(now time.Time) {
	for _, c := range slices.Clone(e.calls) {
		if now.Before(c.abandonAt) || !e.abandon(c) {
			continue
		}
		c.cancel()
		if hook := e.config.Hooks.Abandoned; hook != nil {
			hook(c.msgs)
		}
		e.ended(c, errNoAnswer)
	}
	if e.abandons.Load() > int64(len(e.lanes)+lonelyCalls) {
		e.failure = ErrAbandoned
	}
}

// abandon leaves c to itself, and reports false where it has just returned.
func (e *engine) abandon(c *call) bool {
	left := c.fate.CompareAndSwap(underWay, abandoned)
	if left {
		e.abandons.Add(1)
	}
	return left
}

var errNoAnswer = errors.New("the broker's adapter did not return after its context ended")

// ErrAbandoned ends Run when too many publish calls did not return after their contexts ended: each holds memory and
// perhaps a connection. Start the process anew.
var ErrAbandoned = errors.New("too many publish calls did not return after their contexts ended: restart the relay")

// published takes in a call's outcome, however late it is.
func (e *engine) published(c *call, err error) {
	if c.fate.Load() != abandoned {
		e.ended(c, err)
		return
	}
	for i, result := range Results(err, len(c.items)) {
		if result == nil {
			e.settle.late = append(e.settle.late, c.items[i].record.Ref())
		}
	}
}

// ended settles what became of a call's messages.
func (e *engine) ended(c *call, err error) {
	e.calls = slices.DeleteFunc(e.calls, func(other *call) bool { return other == c })
	if c.lonely {
		e.lonely--
		if topic := c.items[0].key.topic; e.aside.flying[topic] == 1 {
			delete(e.aside.flying, topic)
		} else {
			e.aside.flying[topic]--
		}
	} else {
		c.lane.busy = false
	}
	all := Results(err, len(c.items))
	if !slices.ContainsFunc(all, func(err error) bool { return verdictOf(err) != notAttempted }) {
		all = Results(fmt.Errorf("%w: nothing was attempted: %w", ErrUnavailable, err), len(c.items))
	}
	alive := map[string]bool{}
	var notSent []*item
	for i, it := range c.items {
		switch v := verdictOf(all[i]); {
		case v == stored:
			e.stored(it)
			e.alive[it.key.topic] = max(e.alive[it.key.topic], c.number)
			alive[it.key.topic] = true
		case v == permanent:
			e.refuse(it, all[i], true)
			alive[it.key.topic] = true
		case v == refused, v == uncertain && e.witnessed(c, it):
			e.refuse(it, all[i], false)
			alive[it.key.topic] = alive[it.key.topic] || v == refused
		case v == notAttempted:
			notSent = append(notSent, it)
		case v == fenced:
			e.failure = ErrFenced
			notSent = append(notSent, it)
		default:
			e.holdBack(it, all[i], v == unavailable)
		}
	}
	for _, it := range slices.Backward(notSent) { // the last first, since each goes before what waits
		e.putBack(it)
	}
	// By now those that follow a failed message of their key have been dropped; the others may be sent.
	for _, it := range c.items {
		if it.queue != nil { // a probe waits in none
			c.lane.landed(it)
		}
	}
	for topic := range alive {
		e.topicAlive(topic)
	}
}

// witnessed reports whether an outcome that says nothing by itself counts as an attempt: the call was about this message
// alone, and before it began, something of the topic was stored by a call that had begun after the message last failed. So
// the topic has been alive between the two failures, and one outage cannot explain both. A success during the call says
// nothing: the call may have been lost in an outage that ended after it began. Nor does a call that the engine itself cut off.
func (e *engine) witnessed(c *call, it *item) bool {
	if c.cut {
		return false
	}
	before := it.failedAt
	it.failedAt = e.began
	return len(c.items) == 1 && before > 0 && c.alive > before
}

// stored notes that the broker has it.
func (e *engine) stored(it *item) {
	e.settle.acks = append(e.settle.acks, it)
	if e.caution != nil {
		e.caution.left--
	}
	if h := e.keys[it.key]; h != nil && h.probe == it {
		e.unprobe(h)
		if h.ended() {
			e.waitUntil(h, time.Now())
		}
	}
}

// refuse counts a failed attempt. The message is tried again later, or becomes a dead letter.
func (e *engine) refuse(it *item, cause error, permanent bool) {
	h := e.hold(it, cause)
	if h.probe == it {
		e.unprobe(h)
	}
	h.settling = true
	// Where another relay has counted an attempt in the meantime, nothing is buried: so this position is looked at again in
	// either case, before anything that comes after it.
	h.passOver(it.record.Position)
	failure, burial := e.config.refusal(&it.record, cause, permanent, e.random)
	if burial != nil {
		e.settle.burials = append(e.settle.burials, *burial)
		e.settle.buried = append(e.settle.buried, it)
		return
	}
	e.settle.failures = append(e.settle.failures, failure)
	e.settle.failed = append(e.settle.failed, it)
	e.holdCrowded(it.key.topic)
}

// holdBack keeps it in memory and tries it again soon, alone. No attempt is counted.
func (e *engine) holdBack(it *item, cause error, unavailable bool) {
	h := e.hold(it, cause)
	topic := it.key.topic
	t := e.topics[topic]
	switch {
	case h.probe == it:
		h.flying = false
	case h.probe != nil || h.settling || t != nil && len(e.probes[topic]) > 0:
		// An earlier message of the key, or another one of the topic, is tried in its stead.
		e.letGo(it, h)
		return
	default:
		e.probe(h, it)
	}
	h.due = time.Now().Add(probeDelay(h.tries))
	h.tries++
	if unavailable && len(e.probes[topic]) >= 2 || len(e.probes[topic]) > e.limits.probes || e.probeBytes > e.config.InFlightBytes/16 ||
		e.crowded(topic, e.limits.heldKeys) {
		e.holdTopic(topic)
	}
}

// putBack returns a message that was not sent: behind the one of its key that failed, or to its place.
func (e *engine) putBack(it *item) {
	if h := e.keys[it.key]; h != nil {
		if h.probe == it {
			h.flying = false
			return
		}
		e.letGo(it, h)
		return
	}
	if t := e.topics[it.key.topic]; t != nil || e.resetting || e.draining {
		if t != nil {
			t.passOver(it.record.Position)
		}
		e.release(it)
		return
	}
	q := it.lane.keys[it.key]
	q.waiting = slices.Insert(q.waiting, 0, it)
}

// letGo passes it over: it will be read again when h ends.
func (e *engine) letGo(it *item, h *hold) {
	if it.failedAt > 0 {
		e.doubt(it)
	}
	if t := e.topics[it.key.topic]; t != nil && h.probe == nil && !h.settling {
		e.dropHold(h) // the topic's hold is enough
		if h.from != 0 {
			t.passOver(h.from)
		}
		t.passOver(it.record.Position)
	} else {
		h.passOver(it.record.Position)
	}
	e.release(it)
}

// hold returns the hold of it's key, which keeps back what waits behind it.
func (e *engine) hold(it *item, cause error) *hold {
	h := e.keys[it.key]
	if h == nil {
		h = e.addHold(it.key)
		e.config.Hooks.held(Held{Topic: it.key.topic, Key: it.key.key, Position: it.record.Position}, cause)
	}
	for _, waiting := range it.lane.drop(it.key) {
		h.passOver(waiting.record.Position)
		e.release(waiting)
	}
	return h
}

// probe makes it the message that h tries again from memory.
func (e *engine) probe(h *hold, it *item) {
	it.alone, h.probe = true, it
	e.probes[it.key.topic] = append(e.probes[it.key.topic], h)
	e.probeCount++
	e.probeBytes += it.bytes
	it.lane.count--
	it.lane.bytes -= it.bytes
}

// unprobe notes that h's message is settled, or let go.
func (e *engine) unprobe(h *hold) {
	it, topic := h.probe, h.probe.key.topic
	e.probeCount--
	e.probeBytes -= it.bytes
	it.lane.count++
	it.lane.bytes += it.bytes
	h.probe, h.flying = nil, false
	e.probes[topic] = slices.DeleteFunc(e.probes[topic], func(other *hold) bool { return other == h })
	if len(e.probes[topic]) == 0 {
		delete(e.probes, topic)
	}
}

// holdTopic keeps back everything of a topic behind those of its messages that are tried again, by turns; without any, for
// a second.
func (e *engine) holdTopic(topic string) {
	t := e.topics[topic]
	if t == nil {
		t = &topicHold{untilAlive: true}
		e.topics[topic] = t
		e.config.Logger.Warn("lockstep: topic is held back until a message of it succeeds", "topic", topic)
		e.config.Hooks.held(Held{Topic: topic}, nil)
	}
	e.trimProbes(topic)
	for _, l := range e.lanes {
		for _, it := range l.dropIf(func(key orderKey) bool { return key.topic == topic }) {
			t.passOver(it.record.Position)
			e.release(it)
		}
	}
	if len(e.probes[topic]) == 0 {
		t.untilAlive, t.due = false, time.Now().Add(lastProbe)
	}
}

// trimProbes lets go of what is too much of a topic's messages that are tried again: the highest positions first. Several
// stay, because one alone may be the one that fails by its own fault, and would speak for the topic for ever.
func (e *engine) trimProbes(topic string) {
	all := slices.SortedFunc(slices.Values(e.probes[topic]), func(a, b *hold) int {
		return cmp.Compare(b.probe.record.Position, a.probe.record.Position)
	})
	for _, h := range all {
		n := len(e.probes[topic])
		fit := n <= e.limits.probes && e.probeBytes <= e.config.InFlightBytes/16 && e.probeCount <= e.config.InFlight/4
		if fit || n == 1 {
			return
		}
		if p := h.probe; !h.flying {
			e.unprobe(h)
			e.letGo(p, h)
		}
	}
}

// doubt is what is remembered of a message that was let go after a failure that says nothing.
type doubt struct {
	id       string
	failedAt int64
}

// doubt remembers that it travels alone when it is read again: it may be what made its call fail, and would make the next
// one fail too.
func (e *engine) doubt(it *item) {
	if len(e.doubts) >= e.limits.doubts {
		clear(e.doubts) // some may be gone from the outbox
	}
	e.doubts[it.record.Position] = doubt{it.record.Message.ID, it.failedAt}
}

// recall gives it what was remembered.
func (e *engine) recall(it *item) {
	if d, ok := e.doubts[it.record.Position]; ok {
		delete(e.doubts, it.record.Position)
		if d.id == it.record.Message.ID {
			it.alone, it.failedAt = true, d.failedAt
		}
	}
}

// topicAlive ends what is held back only because topic was thought to be away.
func (e *engine) topicAlive(topic string) {
	now := time.Now()
	if t := e.topics[topic]; t != nil && t.untilAlive {
		t.untilAlive, t.due = false, now
		e.config.Logger.Info("lockstep: topic is alive again", "topic", topic)
	}
	for _, h := range e.probes[topic] {
		if !h.flying {
			h.due = now
		}
	}
}
