package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A message can kill the process that publishes it: an adapter overflows its stack, a client allocates until the kernel
// steps in. Each successor would publish it again and be killed too. So owners that ended uncleanly are counted in the
// lease. After uncleanLimit of them, none of which told of an acknowledgement, a relay is careful: it publishes one message
// at a time, and has its name in the lease while it does so. A name that is found there at a takeover is that of the
// message that was being published when the process ended: one attempt of it has failed.

// uncleanLimit is how many owners in a row end uncleanly, without having told of an acknowledgement, before the next is
// careful.
const uncleanLimit = 3

// errKilled is the cause of an attempt that was counted for a mark.
var errKilled = errors.New("the process that was publishing this message, and no other, ended before the call returned")

// caution is the state of a careful relay.
type caution struct {
	marked  Ref  // in the lease, as far as is known
	wanted  Ref  // what it was last told to be
	writing bool // wanted is on its way there
	turn    int  // the lane whose turn it is
	// left is how many messages are still to be published before it ends: as many as could have been in flight with the one
	// that kills.
	left int
	// convict is the message for which an attempt was counted at the takeover, and that has to wait for its next one.
	// Caution does not end before that.
	convict    int64
	convictKey orderKey
}

// beCareful makes the engine careful from its start.
func (e *engine) beCareful(convict *Record) {
	e.caution = &caution{left: e.config.InFlight}
	if convict != nil {
		e.caution.convict, e.caution.convictKey = convict.Position, keyOf(convict)
	}
}

// startCarefully starts the next publish call when there is none in flight and its message is marked. Without a next one
// the mark is taken away.
func (e *engine) startCarefully(now time.Time) {
	c := e.caution
	if len(e.calls) > 0 || c.writing {
		return
	}
	var want Ref
	var start func()
	over := e.cautionOver()
	if !over && !e.draining && !e.resetting {
		var it *item
		if it, start = e.candidate(now); it != nil {
			want = it.record.Ref()
		}
	}
	switch {
	case c.marked != want:
		c.wanted, c.writing = want, true
		e.settle.mark = &want
	case over:
		e.caution = nil
		e.config.Logger.Info("lockstep: messages are published side by side again")
		e.startCalls(now)
	case start != nil:
		c.turn++
		start()
	}
}

// cautionOver reports whether the message that kills, if there is one, is not among those that this relay would have in
// flight: so many were published, or nothing is left, and the one that was convicted has had its next attempt.
func (e *engine) cautionOver() bool {
	c, r := e.caution, e.reader
	read := r.fetched > 0 && !r.more && !r.rewinding()
	if e.keys[c.convictKey] != nil || r.flight[c.convict] != nil || r.rewinding() || r.cursor < c.convict && !read {
		return false
	}
	return c.left <= 0 || read && e.count == 0 && len(e.keys)+len(e.topics) == 0
}

// probeTurns is how many publish calls of a careful relay there are for each that tries again what failed, while there is
// something else to send: a topic that hangs must not take up all of them.
const probeTurns = 4

// candidate returns the message that a careful relay publishes next, and what publishes it; nil where there is none.
func (e *engine) candidate(now time.Time) (it *item, start func()) {
	first, then := e.fresh, e.probed
	if e.caution.turn%probeTurns == 0 {
		first, then = then, first
	}
	if it, start = first(now); it == nil {
		it, start = then(now)
	}
	return it, start
}

func (e *engine) probed(now time.Time) (it *item, start func()) {
	var first *hold
	for topic := range e.probes {
		if h := e.dueProbe(topic, now); h != nil && (first == nil || compareProbes(h, first) < 0) {
			first = h
		}
	}
	if first == nil {
		return nil, nil
	}
	return first.probe, func() { e.startProbe(now, first) }
}

func (e *engine) fresh(now time.Time) (it *item, start func()) {
	first, then := e.freshAlone, e.freshInLane
	if e.caution.turn%2 == 0 {
		first, then = then, first
	}
	if it, start = first(now); it == nil {
		it, start = then(now)
	}
	return it, start
}

func (e *engine) freshAlone(now time.Time) (it *item, start func()) {
	if q := e.aside.next(); q != nil {
		return q.waiting[0], func() { e.callAside(now, q) }
	}
	return nil, nil
}

func (e *engine) freshInLane(now time.Time) (it *item, start func()) {
	for i := range e.lanes {
		l := e.lanes[(e.caution.turn+i)%len(e.lanes)]
		if it = l.first(); it != nil {
			return it, func() {
				l.busy = true
				e.call(now, l, l.takeBatch(1, e.config.BatchBytes, false), false)
			}
		}
	}
	return nil, nil
}

// judge takes the mark away that the last owner left, and then counts an attempt for its message. In this order one death counts
// once at most, whatever is lost between the two; what this process could not write, it tries again in its next term. judge
// returns the message where it has to be sent again.
func (r *Relay) judge(ctx context.Context, k *keeper, t *term) (convict *Record, err error) {
	if t.suspect != (Ref{}) {
		err = r.unmark(ctx, k, t)
	}
	if err == nil && r.charged != nil {
		convict, err = r.convict(ctx, k, t)
	}
	if err != nil {
		return nil, fmt.Errorf("count an attempt for the message that was being published when the last relay ended: %w", err)
	}
	r.charged = nil
	return convict, nil
}

// unmarkLast takes the mark away at the end of a term, after the last call has returned: it killed nobody, whatever ends the
// process next.
func (r *Relay) unmarkLast(k *keeper, t *term) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := k.do(ctx, func(ctx context.Context, s Session) error { return markSuspect(ctx, s, k.holder, t.epoch, Ref{}) })
	if err == nil {
		r.config.Hooks.suspected(Ref{})
	} else if !errors.Is(err, errLeaseLost) {
		r.config.Logger.Warn("lockstep: a suspect's mark could not be taken away, and counts as an attempt", "error", err)
		r.config.Hooks.databaseFailed("take a suspect's mark away", err)
	}
}

// unmark takes the mark away, and puts the record for which an attempt has to be counted into r.charged.
func (r *Relay) unmark(ctx context.Context, k *keeper, t *term) error {
	r.charged = nil
	// A mark of this relay's own, from a term that it lost, says that the call had not returned then. It killed nobody.
	if !slices.Contains(r.survived, t.suspect) {
		if err := r.charge(ctx, k, t); err != nil {
			return err
		}
	}
	err := k.insist(ctx, t, "take a suspect's mark away", func(ctx context.Context, s Session) error {
		return markSuspect(ctx, s, k.holder, t.epoch, Ref{})
	})
	if err == nil {
		r.config.Hooks.suspected(Ref{})
	}
	return err
}

// charge puts the marked record into r.charged, unless it was delivered, is in an operator's hands by now, or waits: what is
// published is due, so an attempt of it was counted since.
func (r *Relay) charge(ctx context.Context, k *keeper, t *term) error {
	var found FetchResult
	err := k.insist(ctx, t, "read a suspect", func(ctx context.Context, s Session) (err error) {
		found, err = s.Fetch(ctx, FetchRequest{After: t.suspect.Position - 1, Limit: 1, MaxBytes: 1})
		return err
	})
	if err != nil {
		return err
	}
	if len(found.Records) > 0 && found.Records[0].Ref() == t.suspect && found.Records[0].RetryIn <= 0 {
		r.charged = &found.Records[0]
	}
	return nil
}

// convict counts the attempt. It does so once, however often it is called, because what it writes says how many the record
// had before.
func (r *Relay) convict(ctx context.Context, k *keeper, t *term) (*Record, error) {
	record := r.charged
	failure, burial := r.config.refusal(record, errKilled, false, r.random)
	err := k.insist(ctx, t, "settle a suspect", func(ctx context.Context, s Session) error {
		if burial != nil {
			return s.Bury(ctx, []Burial{*burial})
		}
		return s.Fail(ctx, []Failure{failure})
	})
	if err != nil {
		return nil, err
	}
	r.config.Logger.Warn("lockstep: a relay ended while it published a message", "topic", record.Message.Topic,
		"key", record.Message.Key, "id", record.Message.ID, "attempts", failure.Attempts, "dead", burial != nil)
	if burial != nil {
		r.config.Hooks.buried(*burial)
		return nil, nil
	}
	r.config.Hooks.failed(failure)
	return record, nil
}

// markSuspect marks suspect, or fails with errLeaseLost where the lease is another's.
func markSuspect(ctx context.Context, s Session, holder string, epoch int64, suspect Ref) error {
	ours, err := s.MarkSuspect(ctx, holder, epoch, suspect)
	if err == nil && !ours {
		err = errLeaseLost
	}
	return err
}
