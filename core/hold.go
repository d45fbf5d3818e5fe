package core

import (
	"container/heap"
	"time"
)

const (
	// What failed without a counted attempt is tried again after firstProbe, then at twice the time, and at least
	// every lastProbe, so that delivery resumes within seconds of an outage's end.
	firstProbe = 50 * time.Millisecond
	lastProbe  = time.Second
	// tellEvery is the pause between two failures of a topic that are logged, and mostTold is of how many topics they are.
	tellEvery = time.Minute
	mostTold  = 20
)

// passed remembers what a hold keeps back: a hold ends by the reader going back there, never by time alone.
type passed struct {
	// from is the lowest position that was passed over; 0 while there is none.
	from int64
}

// passOver notes that position was not dispatched because of a hold.
func (p *passed) passOver(position int64) {
	if p.from == 0 || position < p.from {
		p.from = position
	}
}

// hold keeps back one key behind a message that is not delivered yet. While it stands, every other message of the key is
// passed over.
type hold struct {
	passed
	key orderKey
	// probe is the message that is tried again from memory, after a failure that was not counted. It stays in flight.
	// nil where the message is read again, or settled.
	probe *item
	// tries counts the failures of probe.
	tries int
	// settling says that the message's failure is being written to the database.
	settling bool
	// flying says that probe is in a publish call.
	flying bool
	// due is when probe is tried.
	due time.Time
	// alarm is the number of the latest alarm that was set for the reader to go back, and counts in e.clock.
	alarm int
	// after is the count of fetches that must have returned before the hold ends.
	after int64
}

// ended reports whether nothing but the way back is left of h.
func (h *hold) ended() bool { return h.probe == nil && !h.settling }

// alarm is when the reader goes back for a hold that has ended. It counts if it still is the hold's latest.
type alarm struct {
	due    time.Time
	hold   *hold
	number int
}

// clock holds alarms: the first due is the first.
type clock []alarm

func (c clock) Len() int           { return len(c) }
func (c clock) Less(i, j int) bool { return c[i].due.Before(c[j].due) }
func (c clock) Swap(i, j int)      { c[i], c[j] = c[j], c[i] }
func (c *clock) Push(a any)        { *c = append(*c, a.(alarm)) }
func (c *clock) Pop() any {
	all := *c
	last := all[len(all)-1]
	all[len(all)-1] = alarm{}
	*c = all[:len(all)-1]
	return last
}

// waitUntil has the reader go back for h, which has ended, when due has come.
func (e *engine) waitUntil(h *hold, due time.Time) {
	h.alarm++
	heap.Push(&e.clock, alarm{due, h, h.alarm})
}

// ring moves what is due from the clock to e.overdue.
func (e *engine) ring(now time.Time) {
	for len(e.clock) > 0 && !e.clock[0].due.After(now) {
		a := heap.Pop(&e.clock).(alarm)
		if h := a.hold; e.keys[h.key] == h && a.number == h.alarm { // or the topic's hold has taken its place
			e.overdue = append(e.overdue, h)
			e.looked = false
		}
	}
}

// addHold holds key back.
func (e *engine) addHold(key orderKey) *hold {
	h := &hold{key: key}
	e.keys[key] = h
	e.heldIn[key.topic]++
	return h
}

// dropHold ends h.
func (e *engine) dropHold(h *hold) {
	delete(e.keys, h.key)
	if e.heldIn[h.key.topic]--; e.heldIn[h.key.topic] == 0 {
		delete(e.heldIn, h.key.topic)
		delete(e.unsure, h.key.topic)
	}
	e.config.Hooks.released(h.held(h.key))
}

// crowded reports whether topic holds back too much to hold more back key by key: with others more than most keys, and itself
// more than a hundredth of them, so that one topic's failures do not have another one held.
func (e *engine) crowded(topic string, most int) bool {
	return len(e.keys) > most && e.heldIn[topic] > e.limits.heldKeys/100
}

// probeDelay is the wait before try number tries.
func probeDelay(tries int) time.Duration {
	return min(firstProbe<<min(tries, 10), lastProbe)
}

// retryDelay is the wait after failed attempt number attempts; half of it is random, so that messages that failed
// together are not tried together for ever.
func (p FailurePolicy) retryDelay(attempts int, random func(time.Duration) time.Duration) time.Duration {
	d := p.FirstDelay
	for i := 1; i < attempts && d < p.MaxDelay; i++ {
		d *= 2
	}
	d = min(d, p.MaxDelay)
	return d/2 + random(d/2+1)
}
