package core

import (
	"context"
	"fmt"
	"time"
)

// A broker that answers nothing, because its host or the way there is gone, leaves calls under way that nobody will ever
// answer: their connections are dead, whatever comes back. So the engine asks, over a new connection each time, while calls go
// without an answer. Where the broker was seen to be away, and then to be back, it ends the calls that had begun before. One that
// is only slow answers the pings: nothing is cut then that may yet succeed.

const (
	// pingEvery is how long nothing may be answered before the broker is asked, how often it is asked then, and how long each
	// ping may take.
	pingEvery = time.Second
	// answerWithin is how long a broker that is back may take to answer a call that had begun before, and after that for the next: one
	// that only stood still answers them. It doubles while it was too short.
	answerWithin = 500 * time.Millisecond
)

// pings is what an engine knows from asking its broker.
type pings struct {
	pinger Pinger // nil where the broker can't be asked
	asking bool   // a ping is under way
	asked  time.Time
	next   time.Time // when the next may begin
	stored time.Time // when something was last stored
	away   bool      // it was asked and did not answer, and has neither answered since nor gone on storing
	back   time.Time // when it answered again
	cutAt  time.Time // when calls that began before that are cut; zero: there are none
	cuts   int       // in a row, after which nothing was stored
	cutTo  int64     // the number of the last call that had begun at the last of them
}

// askBroker pings the broker while calls go without an answer, and cuts them when it has been away and is back.
func (e *engine) askBroker(now time.Time) {
	p := &e.pings
	if p.pinger == nil || e.draining || e.resetting {
		return
	}
	if !p.cutAt.IsZero() {
		if !now.Before(p.cutAt) {
			e.cutLost(now)
		}
		return
	}
	if p.away && len(e.calls)+len(e.probes)+len(e.topics) == 0 {
		p.away = false // nobody asks for it any more
	}
	if due, wanted := e.nextPing(); p.asking || !wanted || due.After(now) {
		return
	}
	p.asking, p.asked, p.next = true, now, now.Add(pingEvery)
	e.publishing.Go(func() {
		ctx, cancel := context.WithTimeout(e.work, pingEvery)
		defer cancel()
		err := ping(ctx, p.pinger)
		e.post(func() { e.pinged(err) })
	})
}

// ping asks, and contains the adapter's panics.
func ping(ctx context.Context, pinger Pinger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the broker's adapter panicked: %v", p)
		}
	}()
	return pinger.Ping(ctx)
}

// nextPing is when the broker is to be asked, as things are now.
func (e *engine) nextPing() (due time.Time, wanted bool) {
	p := &e.pings
	if p.away {
		return p.next, true
	}
	for _, c := range e.calls {
		if at := latest(c.since.Add(pingEvery), p.stored.Add(pingEvery), p.next); !c.cut && (!wanted || at.Before(due)) {
			due, wanted = at, true
		}
	}
	return due, wanted
}

func latest(first time.Time, others ...time.Time) time.Time {
	for _, t := range others {
		if t.After(first) {
			first = t
		}
	}
	return first
}

// pinged takes in a ping's outcome.
func (e *engine) pinged(err error) {
	p := &e.pings
	p.asking = false
	switch {
	case err == nil:
		e.answered()
	case p.stored.After(p.asked): // it may have come back meanwhile
	case p.stored.Add(pingEvery).After(p.asked): // it stores what comes over the connections that there are
		p.away = false
	case !p.away:
		p.away = true
		e.config.Logger.Warn("lockstep: the broker answers nothing, and is asked each second until it does", "error", err)
	}
}

// answered notes that a ping was answered. Where the broker was away, what was under way has little time left.
func (e *engine) answered() {
	p := &e.pings
	if !p.away {
		return
	}
	if e.lastStored > p.cutTo {
		p.cuts = 0
	}
	p.away, p.back = false, time.Now()
	p.cutAt = p.back.Add(e.grace())
}

// grace is how long a broker that is back may take for the next answer to a call that had begun before.
func (e *engine) grace() time.Duration {
	return min(answerWithin<<min(e.pings.cuts, 10), e.config.PublishTimeout)
}

// brokerStored notes that the broker has stored something of c. One that only stood still answers one call after another; an answer
// says nothing of the others' connections.
func (e *engine) brokerStored(c *call) {
	p := &e.pings
	if p.pinger == nil {
		return
	}
	p.stored = time.Now()
	if !p.cutAt.IsZero() && c.since.Before(p.back) {
		p.cutAt = p.stored.Add(e.grace())
	}
}

// hurry makes due what waits for the broker's return.
func (e *engine) hurry(now time.Time) {
	for _, probes := range e.probes {
		for _, h := range probes {
			h.tries = 0
			if !h.flying {
				h.due = now
			}
		}
	}
	for _, t := range e.topics {
		if t.untilAlive {
			t.next, t.tries, t.look, t.looks = now, 0, now, 0
		}
	}
	e.looked = false
}

// cutLost ends the calls that began before the broker was back. What they stored is unknown.
func (e *engine) cutLost(now time.Time) {
	p := &e.pings
	p.cutAt = time.Time{}
	lost := 0
	for _, c := range e.calls {
		if c.since.Before(p.back) && !c.cut {
			e.cut(c, now)
			c.lost = true
			lost++
		}
	}
	if lost == 0 {
		return
	}
	p.cuts++
	p.cutTo = e.began
	e.config.Logger.Info("lockstep: the broker answers again; publish calls that it did not answer are ended", "calls", lost)
}

// cut ends c before its time.
func (e *engine) cut(c *call, now time.Time) {
	c.cut = true
	c.cancel()
	if soon := now.Add(abandonAfter); c.abandonAt.After(soon) {
		c.abandonAt = soon
	}
}
