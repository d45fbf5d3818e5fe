package core

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// fetchLimit is the most records of one fetch of which nothing is known, or that are large, and fetchMost that of small ones. What a
	// fetch brings is divided over the lanes: the more it is, the fewer calls and commits there are.
	fetchLimit = 1000
	fetchMost  = 4000
	// fetchBytes is where a fetch ends that has not reached its limit: while it is read, its records are in memory in more
	// than one form, and are not counted as in flight.
	fetchBytes = 4 << 20
	// databaseTimeout bounds one database call. Cutting one off is harmless: each can be repeated.
	databaseTimeout = 10 * time.Second
	// gapPoll is the wait between fetches while a gap may be filled any moment, and resolvePoll that between questions
	// who could still fill it.
	gapPoll     = 10 * time.Millisecond
	resolvePoll = 250 * time.Millisecond
	// sweepShare is how much longer the pause between two full reads is than the one before it.
	sweepShare = 20
)

// engine carries records during one term of the lease. One goroutine, the one in run, owns all of its state; whatever
// waits for a server does so in a goroutine of its own and comes back through inbox.
type engine struct {
	config  *RelayConfig
	limits  limits
	dialect Dialect
	broker  Broker
	several bool                                // the broker keeps a key's messages in order within a call
	hasher  KeyHasher                           // the broker, where it tells how it spreads keys; nil otherwise
	once    bool                                // return when nothing is deliverable
	due     bool                                // delayed events may be due that were not promoted: run does not return by itself
	report  func(RelayState)                    // is told what the engine holds, after each step
	over    func(time.Time) bool                // whether the term is over; nil: it never is
	ends    func() time.Time                    // when the term is over, as far as is known; nil: it never is
	random  func(n time.Duration) time.Duration // from 0 to n, n not included

	inbox chan func()
	gone  chan struct{} // closed when run returns: nobody reads inbox any more
	// workers are the goroutines that use a session, publishing those that use the broker.
	workers, publishing sync.WaitGroup
	work                context.Context
	end                 context.CancelCauseFunc // of work: lets go of everything at once

	session  Session // the reader's; nil while there is none
	reader   *reader
	lanes    []*lane
	calls    []*call
	abandons *atomic.Int64 // calls that were given up and have not returned: the relay's, whatever term they are of
	aside    *aside
	lonely   int // calls in flight beside the lanes' batches
	keys     map[orderKey]*hold
	heldIn   map[string]int // how many of keys are of a topic
	topics   map[string]*topicHold
	clock    clock
	overdue  []*hold // due, and waiting for the reader to be able to go back
	looked   bool    // nothing has changed for overdue since goBack looked at it
	// probes are the holds with a probe, by topic; probeCount and probeBytes are of all their messages.
	probes                 map[string][]*hold
	probeCount, probeBytes int
	topicsNext             time.Time       // when the first of topics is due
	toEmpty                map[string]bool // topics that were held just now: what waits of them leaves the lanes in the next step
	doubts                 map[int64]doubt // by position
	unsure                 map[string]unsure
	settle                 settlement
	settling               bool
	nextSettle             time.Time  // of acknowledgements that gather
	underWay               settlement // what is being written, while settling is set
	writer                 settler

	count, bytes int   // in flight
	began        int64 // publish calls
	// alive is the highest number of a call in which something of the topic was stored, as far as it matters, and lastStored that
	// of any call in which something was.
	alive      map[string]int64
	aliveMost  int // how many of alive there may be before those are forgotten that do not matter
	lastStored int64
	// caution is set while one message at a time is published.
	caution *caution
	pings   pings
	// progress is set once something was acknowledged.
	progress atomic.Bool
	// unread says that no fetch has returned that began after the last promotion. behind stands from each promotion until
	// the reader has been where it was: if each began it anew, it would never get there.
	unread bool
	behind atomic.Bool

	// resetting says that the reading session is over, and that a new one begins when every call has ended and
	// everything is settled.
	resetting  bool
	resetSince time.Time
	draining   bool
	opening    bool
	reopenAt   time.Time
	reopens    int

	// usualBytes is the mean of the records that the last fetch put in flight, 0 before it, and largestBytes the largest of the last
	// ten or so.
	usualBytes, largestBytes int

	idlePolls int
	woken     bool // since the last fetch began
	nextFetch time.Time
	nextAsk   time.Time // of ResolveGaps
	nextSweep time.Time
	nextTold  time.Time       // when told begins anew
	told      map[string]bool // topics of which a failure was logged
	sweepFrom time.Time
	failure   error      // ends run
	left      DrainError // what run left behind, once it has returned
	lingering bool       // a publish call had not returned when run did
}

// errTermOver is the cause for which a term's work ends.
var errTermOver = errors.New("the lease's term is over")

func newEngine(work context.Context, config *RelayConfig, limits limits, dialect Dialect, broker Broker) *engine {
	e := &engine{
		config: config, limits: limits, dialect: dialect, broker: broker,
		inbox: make(chan func()), gone: make(chan struct{}),
		reader: newReader(limits.gaps), aside: newAside(), abandons: new(atomic.Int64),
		keys: map[orderKey]*hold{}, heldIn: map[string]int{}, doubts: map[int64]doubt{}, topics: map[string]*topicHold{}, probes: map[string][]*hold{}, alive: map[string]int64{},
		toEmpty: map[string]bool{}, unsure: map[string]unsure{}, told: map[string]bool{},
	}
	_, e.several = Ability[KeyOrdered](broker)
	e.hasher, _ = Ability[KeyHasher](broker)
	e.pings.pinger, _ = Ability[Pinger](broker)
	e.work, e.end = context.WithCancelCause(work)
	for range config.Lanes {
		e.lanes = append(e.lanes, newLane(e.aside))
	}
	e.writer = settler{dialect: dialect, failed: func(err error) {
		e.warn("settle", err)
		config.Hooks.databaseFailed("settle", err)
	}}
	return e
}

// run carries records until stop is done, and then drains: it lets calls finish and settles what they stored. It
// returns early when work ends, and, where once is set, when nothing is deliverable.
func (e *engine) run(stop context.Context, wake, heard <-chan struct{}) error {
	err := e.carry(stop, wake, heard)
	e.finish(err)
	return e.outcome(stop, err)
}

func (e *engine) carry(stop context.Context, wake, heard <-chan struct{}) error {
	stopped := stop.Done()
	var drainUntil <-chan time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	e.nextSweep = time.Now().Add(e.limits.sweepPause)
	for {
		now := time.Now()
		e.step(now)
		e.report(e.state())
		if e.failure != nil {
			return e.failure
		}
		if e.finished() {
			return nil
		}
		timer.Reset(max(0, time.Until(e.nextEvent(now))))
		select {
		case f := <-e.inbox:
			f()
		case <-wake:
			e.wake()
		case <-heard:
			e.wake()
		case <-stopped:
			stopped = nil
			e.drain()
			drainUntil = time.After(e.config.DrainTimeout)
		case <-drainUntil:
			return errDrainTime
		case <-e.work.Done():
			return context.Cause(e.work)
		case <-timer.C:
		}
	}
}

// wake has the outbox read now.
func (e *engine) wake() {
	e.idlePolls, e.woken = 0, true
	if hook := e.config.Hooks.Woken; hook != nil {
		hook()
	}
}

// post gives f to run's goroutine, and reports whether that is still there.
func (e *engine) post(f func()) bool {
	select {
	case e.inbox <- f:
		return true
	case <-e.gone:
		return false
	}
}

// step starts whatever can be started.
func (e *engine) step(now time.Time) {
	if e.over != nil && e.over(now) {
		e.end(errTermOver) // judged here as well, because after a pause of the process timers may fire late
		return
	}
	e.giveUp(now)
	e.askBroker(now)
	if e.resetting {
		e.finishReset(now)
	}
	e.emptyLanes()
	e.goBack(now)
	e.startCalls(now)
	e.startSettling(now)
	e.startReading(now)
}

// drain stops everything that is not in flight yet.
func (e *engine) drain() {
	e.draining = true
	for _, l := range e.lanes {
		for _, it := range l.dropIf(func(orderKey) bool { return true }) {
			e.release(it)
		}
	}
}

// finished reports whether nothing is left to do.
func (e *engine) finished() bool {
	if len(e.calls) > 0 || e.settling || !e.settle.empty() {
		return false
	}
	if e.draining {
		return !e.reader.fetching
	}
	r := e.reader
	return e.once && !e.due && !e.resetting && r.fetched > 0 && !r.fetching && !r.more && !r.rewinding() && e.count == e.probeCount && !e.owed()
}

// owed reports whether the reader has to go back at once.
func (e *engine) owed() bool {
	now := time.Now()
	if len(e.overdue) > 0 || len(e.clock) > 0 && !e.clock[0].due.After(now) {
		return true
	}
	for _, t := range e.topics {
		if !t.untilAlive && !t.due.After(now) {
			return true
		}
	}
	return slices.ContainsFunc(e.lanes, func(l *lane) bool { return l.full })
}

// nextEvent is when step has something to do that nothing else would wake it for. What could be done at now was done by
// step, or waits for something that comes through inbox; now must be the time that step was given, or what became due
// in between is forgotten.
func (e *engine) nextEvent(now time.Time) time.Time {
	next := now.Add(time.Hour)
	sooner := func(t time.Time) {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	for _, c := range e.calls {
		sooner(c.abandonAt)
	}
	if e.ends != nil {
		sooner(e.ends())
	}
	if e.resetting {
		sooner(e.resetSince.Add(resetGrace))
		sooner(e.reopenAt)
		return next
	}
	if e.draining {
		return next
	}
	if p := &e.pings; !p.cutAt.IsZero() {
		sooner(p.cutAt)
	} else if p.pinger != nil && !p.asking {
		if due, wanted := e.nextPing(); wanted {
			sooner(due)
		}
	}
	if len(e.clock) > 0 {
		sooner(e.clock[0].due)
	}
	for topic, probes := range e.probes {
		for _, h := range probes {
			sooner(h.due)
		}
		if t := e.topics[topic]; t != nil {
			sooner(t.next)
		}
	}
	sooner(e.topicsNext)
	if !e.settling && !e.settle.empty() {
		sooner(e.nextSettle)
	}
	if !e.reader.fetching && e.room() {
		sooner(e.nextFetch)
		if len(e.reader.gaps) > 0 {
			sooner(e.nextAsk)
		}
	}
	sooner(e.reopenAt)
	sooner(e.nextSweep)
	return next
}

// room reports whether a fetch's records would find a place in memory.
func (e *engine) room() bool {
	return e.count-e.probeCount <= e.config.InFlight*3/4 && e.bytes-e.probeBytes <= e.config.InFlightBytes*3/4
}

// enter puts it in flight.
func (e *engine) enter(it *item) {
	e.reader.flight[it.record.Position] = it
	e.count++
	e.bytes += it.bytes
	e.largestBytes = max(e.largestBytes, it.bytes, 1)
	it.lane.count++
	it.lane.bytes += it.bytes
	if it.apart {
		it.lane.apart.count++
		it.lane.apart.bytes += it.bytes
		e.aside.load(it.key.topic, 1, it.bytes)
	}
}

// exit counts down what is no longer in flight.
func (e *engine) exit(it *item) {
	e.count--
	e.bytes -= it.bytes
	it.lane.count--
	it.lane.bytes -= it.bytes
	e.together(it)
}

// together notes that it is none of those any more that wait aside.
func (e *engine) together(it *item) {
	if it.apart {
		it.apart = false
		it.lane.apart.count--
		it.lane.apart.bytes -= it.bytes
		e.aside.load(it.key.topic, -1, -it.bytes)
	}
}

// release takes out of flight, at once, what stays in the outbox and will be read again.
func (e *engine) release(it *item) {
	if e.reader.flight[it.record.Position] == it {
		delete(e.reader.flight, it.record.Position)
		e.exit(it)
	}
}

// leave takes out of flight what was removed from the outbox.
func (e *engine) leave(it *item) {
	if e.reader.left(it) {
		e.exit(it)
	}
}

// laneOf returns the lane of key: always the same.
func (e *engine) laneOf(key orderKey) *lane {
	if e.hasher != nil && key.key != "" {
		return e.lanes[e.hasher.HashKey(key.topic, key.key)%uint32(len(e.lanes))] //nolint:gosec // there are a few
	}
	const prime = 1_099_511_628_211 // FNV-1a: the same in each run, which a simulation needs
	h := uint64(14_695_981_039_346_656_037)
	for _, s := range []string{key.topic, "\x00", key.key} {
		for i := range len(s) {
			h = (h ^ uint64(s[i])) * prime
		}
	}
	h = (h ^ uint64(key.position)) * prime
	return e.lanes[(h^h>>32)%uint64(len(e.lanes))]
}

func (e *engine) warn(doing string, err error) {
	e.config.Logger.Warn("lockstep: "+doing+" failed and is tried again", "error", err)
}
