package core

import "time"

// topicHold keeps back a topic, but for those of its messages that are probes. They take turns. Beside them the reader goes back
// now and then, and lets a message or a few through: scouts. Each of the probes may be one that fails by its own fault, and
// there may be no memory for any.
type topicHold struct {
	passed
	// untilAlive says that it stands until a message of the topic succeeds; otherwise it ends when it is due.
	untilAlive bool
	due        time.Time
	// next is when the next of its probes may be sent, and tries counts them.
	next  time.Time
	tries int

	// look is when the reader goes back for the next scout, and looks counts how often it did.
	look  time.Time
	looks int
	// scouts is how many messages may be let through that are behind after, which is where the last scout was, and of a key of which
	// nothing was passed over. seen are the keys that were met on the way.
	scouts int
	after  int64
	seen   map[orderKey]bool
}

// lastLook is the longest wait for a scout while there are probes: each costs a way back through everything that waits.
const lastLook = time.Minute

// mostSeen bounds the keys that are remembered while a scout is looked for: a topic's backlog may have millions.
const mostSeen = 2000

// unsure is what is known of a topic whose calls end without an answer.
type unsure struct {
	first int64 // the number of the first of those calls
	calls int
}

// passOver notes that position was not dispatched, or has left the lanes. What was met on the way from there says nothing any more.
func (t *topicHold) passOver(position int64) {
	t.passed.passOver(position)
	t.scouts, t.seen = 0, nil
}

// newTopicHold holds topic back.
func (e *engine) newTopicHold(topic string) *topicHold {
	t := &topicHold{}
	e.topics[topic], e.looked = t, false
	e.config.Hooks.held(Held{Topic: topic}, nil)
	return t
}

// holdTopic keeps back everything of a topic behind those of its messages that are tried again, until one succeeds.
func (e *engine) holdTopic(topic string) {
	if e.topics[topic] != nil {
		return
	}
	e.config.Logger.Warn("lockstep: topic is held back until a message of it succeeds", "topic", topic)
	t := e.newTopicHold(topic)
	t.untilAlive, e.toEmpty[topic] = true, true
	e.setLook(topic, t, time.Now())
}

// holdCrowded holds topic where it holds back too much key by key. What is in the lanes goes on.
func (e *engine) holdCrowded(topic string) {
	if e.topics[topic] == nil && e.crowded(topic, e.limits.heldKeys) {
		e.newTopicHold(topic).due = time.Now().Add(lastProbe)
	}
}

// emptyLanes takes out of the lanes what waits of topics that are thought to be away since the last step. It does so for all of them at once: each
// time it looks at every key.
func (e *engine) emptyLanes() {
	if len(e.toEmpty) == 0 {
		return
	}
	for _, l := range e.lanes {
		for _, it := range l.dropIf(func(key orderKey) bool { return e.toEmpty[key.topic] && e.topics[key.topic] != nil }) {
			e.topics[it.key.topic].passOver(it.record.Position)
			e.release(it)
		}
	}
	clear(e.toEmpty)
}

// unanswered notes that c ended without an answer about topic. Where two batches in a row did, and another topic's call was answered
// meanwhile, each further one would take another lane's time: so the topic is held.
func (e *engine) unanswered(topic string, c *call) {
	u := e.unsure[topic]
	if u.calls++; u.calls == 1 {
		u.first = c.number
	}
	e.unsure[topic] = u
	if u.calls > 1 && e.lastStored > u.first {
		e.holdTopic(topic)
	}
}

// topicAlive ends what is held back only because topic was thought to be away.
func (e *engine) topicAlive(topic string) {
	now := time.Now()
	delete(e.unsure, topic)
	if t := e.topics[topic]; t != nil && t.untilAlive {
		t.untilAlive, t.due, e.looked = false, now, false
		e.config.Logger.Info("lockstep: topic is alive again", "topic", topic)
	}
	for _, h := range e.probes[topic] {
		// What was stored by a call that began before the probe failed says nothing of the time since: tried on its account, the probe
		// would fail without a witness, and in a busy topic at once again.
		if failedAt := h.probe.failedAt; !h.flying && (failedAt == 0 || e.alive[topic] > failedAt) {
			h.due = now
		}
	}
}

// topicsDue reports whether one of the holds of topics may have to end, or to send a scout.
func (e *engine) topicsDue(now time.Time) bool {
	return len(e.topics) > 0 && (!e.looked || !now.Before(e.topicsNext))
}

// endTopicHolds ends the holds of topics whose time has come, and sends scouts. back is asked whether the reader can go back.
func (e *engine) endTopicHolds(now time.Time, back func(from int64) bool) {
	e.topicsNext = now.Add(time.Hour)
	for topic, t := range e.topics {
		if t.untilAlive && !t.look.After(now) {
			e.sendScout(topic, t, now, back)
		}
		if !t.untilAlive && !t.due.After(now) && e.crowded(topic, e.limits.heldKeys*3/4) {
			t.due = now.Add(lastProbe)
		}
		if !t.untilAlive && !t.due.After(now) && (t.from == 0 || back(t.from)) {
			delete(e.topics, topic)
			e.config.Hooks.released(Held{Topic: topic})
			continue
		}
		due := t.due
		if t.untilAlive {
			due = t.look
		}
		if due.After(now) && due.Before(e.topicsNext) {
			e.topicsNext = due
		}
	}
}

// sendScout has the reader go back, and let a message or a few of topic through. Where there is none, and nothing else is tried, the hold
// ends.
func (e *engine) sendScout(topic string, t *topicHold, now time.Time, back func(from int64) bool) {
	under := e.aside.loads[topic].count
	idle := under == 0 && len(e.probes[topic]) == 0
	switch {
	case idle && (t.from == 0 || t.scouts > 0 && t.after == 0 && !e.reader.rewinding() && !e.crowdsAside()):
		t.untilAlive, t.due = false, now
	case t.from == 0:
	case under >= probeCalls:
		t.look = now.Add(lastProbe)
	case back(t.from):
		if t.scouts > 0 {
			t.after = 0 // there were no more behind it
		}
		t.scouts, t.seen = 1, map[orderKey]bool{}
		if len(e.probes[topic]) > 0 {
			t.scouts = probeCalls - under // it will be long before the next
		}
		e.setLook(topic, t, now)
	}
}

// setLook decides when the next scout is sent.
func (e *engine) setLook(topic string, t *topicHold, now time.Time) {
	wait := probeDelay(t.looks)
	if len(e.probes[topic]) > 0 {
		wait = min(lastProbe<<min(t.looks, 10), lastLook)
	}
	if e.aside.loads[topic].count > 0 {
		wait = max(wait, e.config.PublishTimeout/probeCalls) // they hang
	}
	t.look = now.Add(wait)
	t.looks++
}

// scout reports whether record, whose topic t holds, is let through: as the first of its key since the reader went back, or an earlier
// one would be overtaken.
func (e *engine) scout(t *topicHold, key orderKey, record *Record) bool {
	if t.scouts == 0 {
		return false
	}
	through := !t.seen[key] && e.keys[key] == nil && record.RetryIn <= 0 && record.Position > t.after && !e.crowdsAside()
	if key.key != "" {
		t.seen[key] = true
	}
	switch {
	case through:
		t.scouts, t.after = t.scouts-1, record.Position
	case len(t.seen) >= mostSeen: // in vain so far: the next look is for the first that may be let through
		t.scouts, t.after, t.seen = 0, 0, nil
	}
	return through
}
