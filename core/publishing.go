package core

import (
	"context"
	"errors"
	"fmt"
	"maps"
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
		since: now, abandonAt: now.Add(e.config.PublishTimeout + abandonAfter), alive: e.alive[items[0].key.topic],
	}
	if lonely {
		e.lonely++
		e.aside.flying[items[0].key.topic]++
		e.aside.turns++
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
	alive, doubtful := map[string]bool{}, map[string]bool{}
	var notSent []*item
	some := false // stored
	for i, it := range c.items {
		switch v := verdictOf(all[i]); {
		case v == stored:
			e.stored(it)
			e.alive[it.key.topic] = max(e.alive[it.key.topic], c.number)
			e.lastStored = max(e.lastStored, c.number)
			alive[it.key.topic], some = true, true
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
			doubtful[it.key.topic] = doubtful[it.key.topic] || v == uncertain && !c.lonely && !c.cut
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
	for topic := range doubtful {
		if !alive[topic] {
			e.unanswered(topic, c)
		}
	}
	for topic := range alive {
		e.topicAlive(topic)
	}
	if some {
		e.brokerStored(c)
	}
	if c.lost {
		e.hurry(time.Now()) // not before: its topic's next scout would have been sent in vain, and taken it for one that hangs
	}
	e.forgetLife()
}

// forgetLife forgets which topics were alive that hold nothing back: nothing asks for them, but for a message that is remembered as
// a doubt, and that will find other evidence.
func (e *engine) forgetLife() {
	if len(e.alive) <= e.aliveMost {
		return
	}
	maps.DeleteFunc(e.alive, func(topic string, _ int64) bool { return e.heldIn[topic] == 0 && e.topics[topic] == nil })
	e.aliveMost = 2*len(e.alive) + e.limits.doubts
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
	e.tell(it, cause)
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
	e.tell(it, cause)
	h := e.hold(it, cause)
	topic := it.key.topic
	switch {
	case h.probe == it:
		h.flying = false
	case h.probe != nil || h.settling || e.topics[topic] != nil && len(e.probes[topic]) > 0 || it.queue != nil && it.queue.passed:
		// An earlier message of the key, or another one of the topic, is tried in its stead; or an earlier one was let go.
		e.letGo(it, h)
		return
	case !e.fitsProbes(it):
		e.holdTopic(topic)
		e.letGo(it, h)
		return
	default:
		e.probe(h, it)
	}
	h.due = time.Now().Add(probeDelay(h.tries))
	h.tries++
	if unavailable && len(e.probes[topic]) >= 2 {
		e.holdTopic(topic)
	}
	e.holdCrowded(topic)
}

// tell logs why it was not delivered: one message of a topic a minute, and not of more than mostTold topics, because an outage
// fails thousands.
func (e *engine) tell(it *item, cause error) {
	if now := time.Now(); !now.Before(e.nextTold) {
		clear(e.told)
		e.nextTold = now.Add(tellEvery)
	}
	m := &it.record.Message
	if e.told[m.Topic] || len(e.told) >= mostTold {
		return
	}
	e.told[m.Topic] = true
	e.config.Logger.Warn("lockstep: a message could not be delivered; for each topic one such failure a minute is logged",
		"topic", m.Topic, "key", m.Key, "id", m.ID, "error", cause)
}

// putBack returns a message that was not sent: behind the one of its key that failed, or to its place.
func (e *engine) putBack(it *item) {
	if h := e.keys[it.key]; h != nil {
		if h.probe == it {
			h.flying = false
			return
		}
		for _, waiting := range it.lane.drop(it.key) { // where the key is held only because there was no room for more of it
			h.passOver(waiting.record.Position)
			e.release(waiting)
		}
		e.letGo(it, h)
		return
	}
	if t := e.topics[it.key.topic]; t != nil || e.resetting || e.draining {
		if t != nil {
			for _, waiting := range it.lane.drop(it.key) { // of a topic that only holds back too much, the lanes go on
				t.passOver(waiting.record.Position)
				e.release(waiting)
			}
			t.passOver(it.record.Position)
		}
		e.release(it)
		return
	}
	behind := it.lane.drop(it.key)
	it.lane.add(it)
	for _, waiting := range behind {
		it.lane.add(waiting)
	}
}

// letGo passes it over: it will be read again when h ends.
func (e *engine) letGo(it *item, h *hold) {
	if it.failedAt > 0 {
		e.doubt(it)
	}
	if it.queue != nil {
		it.queue.passed = true
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

// fitsProbes reports whether it may be one of the messages that are tried again from memory, of which the first may be of any
// size.
func (e *engine) fitsProbes(it *item) bool {
	return e.probeCount == 0 || len(e.probes[it.key.topic]) < e.limits.probes &&
		e.probeCount < min(probeTopics*e.limits.probes, e.config.InFlight/4) &&
		e.probeBytes+it.bytes <= e.config.InFlightBytes/16
}

// probe makes it the message that h tries again from memory.
func (e *engine) probe(h *hold, it *item) {
	e.together(it)
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
	if len(e.probes[topic]) > 0 {
		return
	}
	delete(e.probes, topic)
	if t := e.topics[topic]; t != nil {
		t.look, e.looked = time.Now(), false // nothing speaks for it now
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

// doubted reports whether record is remembered to travel alone.
func (e *engine) doubted(record *Record) bool {
	d, ok := e.doubts[record.Position]
	return ok && d.id == record.Message.ID
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
