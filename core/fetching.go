package core

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// resetGrace is how long publish calls may go on after the reading session ended, before their contexts end too.
const resetGrace = time.Second

// firstPoll is the first wait of a relay that has read everything and is not woken; each further one is twice as long. Events that
// come one by one gather in it: at some hundred a second, reading for each of them is what costs the database most.
const firstPoll = 2 * time.Millisecond

// gapPatience is how long a new gap may fill by itself, as most do, before anybody asks who could fill it.
const gapPatience = 50 * time.Millisecond

// startReading opens a session, asks who could fill the gaps, or fetches: one at a time, over one connection.
func (e *engine) startReading(now time.Time) {
	r := e.reader
	if e.draining || e.resetting || r.fetching || e.opening {
		return
	}
	if e.session == nil {
		if !now.Before(e.reopenAt) {
			e.open()
		}
		return
	}
	if len(r.gaps) > 0 && !now.Before(e.nextAsk) && e.ask(now) {
		return
	}
	if e.room() && (e.woken || !now.Before(e.nextFetch)) {
		e.fetch(now)
	}
}

func (e *engine) open() {
	e.opening = true
	e.workers.Go(func() {
		ctx, cancel := context.WithTimeout(e.work, databaseTimeout)
		defer cancel()
		session, err := e.dialect.Open(ctx)
		received := e.post(func() {
			e.opening = false
			if err != nil {
				e.reset(fmt.Errorf("open session: %w", err))
				return
			}
			e.session, e.nextFetch = session, time.Time{}
			if hook := e.config.Hooks.Opened; hook != nil {
				hook()
			}
		})
		if !received && err == nil {
			_ = session.Close() // unused
		}
	})
}

// ask finds out which gaps are dead, and reports false where all are known to be. It counts as fetching: the session is in use.
func (e *engine) ask(now time.Time) bool {
	e.nextAsk = now.Add(resolvePoll)
	asked := e.reader.toAsk()
	if len(asked) == 0 {
		return false
	}
	e.reader.fetching = true
	gaps := make([]Gap, len(asked))
	for i, at := range asked {
		gaps[i] = e.reader.gaps[at]
	}
	session := e.session
	e.workers.Go(func() {
		ctx, cancel := context.WithTimeout(e.work, databaseTimeout)
		defer cancel()
		err := session.ResolveGaps(ctx, gaps)
		e.post(func() {
			e.settleLeft()
			if err != nil {
				e.reset(fmt.Errorf("resolve gaps: %w", err))
				return
			}
			e.resolved(asked, gaps)
		})
	})
	return true
}

// resolved takes in which gaps are dead. Nothing else changes them while fetching is set.
func (e *engine) resolved(asked []int, gaps []Gap) {
	dead := 0
	for i, at := range asked {
		if gaps[i].Dead {
			dead++
			if hook := e.config.Hooks.Resolved; hook != nil {
				hook(gaps[i].Range)
			}
		}
		e.reader.gaps[at] = gaps[i]
	}
	if dead == len(gaps) && dead == askGaps*e.limits.gaps {
		e.nextAsk = time.Time{} // and so may be the rest
	}
}

// promoted has delayed events read that came due.
func (e *engine) promoted(events int) {
	if events == 0 {
		e.due = false
		return
	}
	e.woken, e.unread = true, true
	e.behind.Store(true)
	if hook := e.config.Hooks.Promoted; hook != nil {
		hook(events)
	}
}

// fetchLimit is how many records fit into a fetch, if they are like the last. A dialect may have to bound the bytes of a result in a
// slower way where there are some that are larger than twice their share of it.
func (e *engine) fetchLimit() int {
	if e.usualBytes == 0 {
		return fetchLimit
	}
	return min(fetchMost, max(fetchLimit, min(fetchBytes/e.usualBytes, 2*fetchBytes/e.largestBytes)))
}

func (e *engine) fetch(now time.Time) {
	e.woken = false
	sees := e.unread
	limit := min(e.fetchLimit(), max(1, e.config.InFlight-e.count+e.probeCount))
	maxBytes := min(fetchBytes, max(1, e.config.InFlightBytes-e.bytes+e.probeBytes))
	request := e.reader.request(limit, maxBytes)
	session := e.session
	e.workers.Go(func() {
		ctx, cancel := context.WithTimeout(e.work, databaseTimeout)
		defer cancel()
		result, err := session.Fetch(ctx, request)
		took := time.Since(now)
		e.post(func() {
			if err != nil {
				e.settleLeft()
				e.reset(fmt.Errorf("fetch: %w", err))
				return
			}
			if e.config.Hooks.Fetched != nil && len(result.Records) > 0 {
				e.config.Hooks.Fetched(len(result.Records), took)
			}
			e.fetched(result)
			if sees {
				e.unread = false
			}
			if !e.unread && !e.reader.rewinding() {
				e.behind.Store(false)
			}
		})
	})
}

// settleLeft notes that the session is free, and lets go of what waited for that.
func (e *engine) settleLeft() {
	e.looked = false
	for _, it := range e.reader.returned() {
		e.exit(it)
	}
}

// fetched takes in the result of a fetch.
func (e *engine) fetched(result FetchResult) {
	r := e.reader
	if r.known && result.Incarnation != r.incarnation {
		e.settleLeft()
		e.reset(fmt.Errorf("fetch: another server answers: %q, and before it %q", result.Incarnation, r.incarnation))
		return
	}
	changed := r.known && result.Generation != r.generation
	r.known, r.generation, r.incarnation = true, result.Generation, result.Incarnation
	// Records were put back below the cursor, or their keys unblocked. Nothing of such a result is used, unless it begins at the
	// start itself: what is read from there comes in order.
	again := changed && r.asked.After > 0
	if again {
		e.rewind(1)
	}
	if again || r.stale {
		e.settleLeft()
		e.nextFetch = time.Time{}
		return
	}
	reused, before, bytes := false, e.count, e.bytes
	e.largestBytes -= e.largestBytes / 16
	for i := range result.Records {
		reused = !e.dispatch(&result.Records[i]) || reused
	}
	dispatched := e.count > before
	if dispatched {
		e.usualBytes = max(1, (e.bytes-bytes)/(e.count-before))
	}
	e.settleLeft()
	if reused {
		e.reset(fmt.Errorf("fetch: positions are used a second time"))
		return
	}
	hadGaps := len(r.gaps) > 0
	r.advance(result)
	r.news = r.news || dispatched
	if !hadGaps {
		e.nextAsk = time.Now().Add(gapPatience)
	}
	e.reopens = 0
	e.schedule()
}

// schedule decides when to fetch next: at once while there is more to read, then less and less often.
func (e *engine) schedule() {
	now := time.Now()
	if !e.sweepFrom.IsZero() && !e.reader.rewinding() {
		took := now.Sub(e.sweepFrom)
		e.nextSweep = now.Add(max(e.limits.sweepPause, sweepShare*took))
		e.sweepFrom = time.Time{}
		if hook := e.config.Hooks.Swept; hook != nil {
			hook(took)
		}
	}
	if e.reader.news {
		e.idlePolls = 0
	}
	if e.reader.rewinding() || e.reader.news && e.reader.more {
		e.nextFetch = time.Time{}
		return
	}
	wait := min(firstPoll<<min(e.idlePolls, 20), e.config.PollInterval)
	if len(e.reader.gaps) > 0 {
		wait = min(wait, gapPoll)
	}
	e.idlePolls++
	e.nextFetch = now.Add(wait)
}

// dispatch gives a record to its lane, or passes it over where it is in flight or held back. It reports false where
// another record of the same position is in flight.
func (e *engine) dispatch(record *Record) bool {
	if it := e.reader.flight[record.Position]; it != nil {
		return it.record.Message.ID == record.Message.ID
	}
	key := keyOf(record)
	t := e.topics[key.topic]
	scout := t != nil && e.scout(t, key, record)
	if t != nil && !scout {
		t.passed.passOver(record.Position)
		return true
	}
	if h := e.keys[key]; h != nil {
		h.passOver(record.Position)
		return true
	}
	if record.RetryIn > 0 {
		h := e.addHold(key)
		h.passOver(record.Position)
		e.waitUntil(h, time.Now().Add(record.RetryIn))
		e.config.Hooks.held(h.held(key), nil)
		e.holdCrowded(key.topic)
		return true
	}
	it := &item{record: *record, key: key, lane: e.laneOf(key), bytes: bytesOf(record)}
	if l := it.lane; !l.full && (l.count-l.apart.count >= e.config.InFlight/4 || l.bytes-l.apart.bytes >= e.config.InFlightBytes/4) && l.waits() {
		l.full, l.from = true, record.Position
	}
	if it.lane.full {
		it.lane.from = min(it.lane.from, record.Position)
		return true
	}
	it.alone = record.Attempts > 0 || scout || e.doubted(record)
	it.apart = it.alone || it.lane.blocked(key)
	if it.apart && !scout && e.aside.full(key.topic, e.most()) {
		e.await(key, record.Position)
		return true
	}
	e.recall(it)
	e.enter(it)
	it.lane.add(it)
	return true
}

// goBack ends the holds whose time has come, by reading again from the first record that was passed over. Those that
// are due share one way back, and while the reader is on it, only what lies ahead of it may end.
func (e *engine) goBack(now time.Time) {
	if e.resetting || e.draining {
		return
	}
	r := e.reader
	target := r.cursor + 1
	// What lies ahead of the cursor is read in order in any case.
	back := func(from int64) bool {
		if from <= r.cursor && r.rewinding() {
			return false
		}
		target = min(target, from)
		return true
	}
	borrows := false
	backForHold := func(from int64) bool {
		if from <= r.cursor && r.debt > 0 || !back(from) {
			return false
		}
		borrows = borrows || from <= r.cursor
		return true
	}
	e.ringAside(now)
	e.ring(now)
	if e.topicsDue(now) {
		e.endTopicHolds(now, backForHold)
	}
	if !e.looked {
		e.looked = true
		e.overdue = slices.DeleteFunc(e.overdue, func(h *hold) bool {
			if e.keys[h.key] != h || !h.ended() {
				return true // the topic's hold has taken its place, or an earlier message of the key has failed since
			}
			ends := r.fetched >= h.after && (h.from == 0 || backForHold(h.from))
			if ends {
				e.dropHold(h)
			}
			return ends
		})
	}
	for _, l := range e.lanes {
		if l.full && l.count-l.apart.count <= e.config.InFlight/8 && l.bytes-l.apart.bytes <= e.config.InFlightBytes/8 && back(l.from) {
			l.full = false
		}
	}
	if !now.Before(e.nextSweep) && !r.rewinding() {
		target = 1
		e.sweepFrom, e.nextSweep = now, now.Add(24*time.Hour) // until it is over
	}
	if target <= r.cursor {
		e.rewind(target)
		r.borrowing = r.borrowing || borrows
	}
}

func (e *engine) rewind(target int64) {
	e.looked = false // what lies ahead of the cursor now may end
	from := e.reader.cursor
	e.reader.rewind(target)
	e.nextFetch = time.Time{}
	if e.config.Hooks.Rewound != nil && target <= from {
		e.config.Hooks.Rewound(from, target)
	}
}

// reset ends the reading session: what it read may not be true any more. A new one starts from nothing.
func (e *engine) reset(err error) {
	e.warn("read", err)
	e.config.Hooks.lost(err)
	if session := e.session; session != nil {
		e.session = nil
		e.workers.Go(func() { _ = session.Close() }) // it is given up in any case
	}
	e.resetting, e.resetSince = true, time.Now()
	e.reopenAt = time.Now().Add(probeDelay(e.reopens))
	e.reopens++
	for _, l := range e.lanes {
		for _, it := range l.dropIf(func(orderKey) bool { return true }) {
			e.release(it)
		}
	}
}

// finishReset begins anew once nothing of the old session is under way: every call ended or given up, and everything
// settled.
func (e *engine) finishReset(now time.Time) {
	if now.Sub(e.resetSince) >= resetGrace {
		for _, c := range e.calls {
			e.cut(c, now)
		}
	}
	if len(e.calls) > 0 || e.settling || !e.settle.empty() || e.reader.fetching {
		return
	}
	e.resetting = false
	e.reader = newReader(e.limits.gaps)
	e.count, e.bytes = 0, 0
	e.forgetHolds()
	e.keys, e.heldIn, e.topics = map[orderKey]*hold{}, map[string]int{}, map[string]*topicHold{}
	e.clock, e.overdue = nil, nil
	e.doubts = map[int64]doubt{}
	e.probes, e.probeCount, e.probeBytes = map[string][]*hold{}, 0, 0
	e.toEmpty, e.unsure = map[string]bool{}, map[string]unsure{}
	e.alive, e.lastStored = map[string]int64{}, 0
	e.aside = newAside()
	for i := range e.lanes {
		e.lanes[i] = newLane(e.aside)
	}
}

// forgetHolds tells that nothing is held back any more.
func (e *engine) forgetHolds() {
	for key, h := range e.keys {
		e.config.Hooks.released(h.held(key))
	}
	for topic := range e.topics {
		e.config.Hooks.released(Held{Topic: topic})
	}
}
