package core

import (
	"slices"
	"time"
)

// aside holds what travels beside the lanes' batches, by topic, and counts it.
type aside struct {
	topics map[string]*asideTopic
	turn   []*asideTopic  // those of topics, in the order of their turns
	turns  int            // how many were taken, by probes too
	flying map[string]int // calls under way, probes' among them

	// loads count what is in memory because it travels alone, or behind what does, but for probes; total is their sum.
	loads map[string]load
	total load
	// awaiting are holds of keys for which there was no room, by topic, and eased says that there may be some now.
	awaiting map[string][]*hold
	eased    bool
}

// asideTopic is a topic of which keys wait aside.
type asideTopic struct {
	topic   string
	waiting []*keyQueue // keys whose next message travels alone
}

// load is how many messages, and of how many bytes, there are.
type load struct{ count, bytes int }

func newAside() *aside {
	return &aside{topics: map[string]*asideTopic{}, flying: map[string]int{}, loads: map[string]load{}, awaiting: map[string][]*hold{}}
}

// add puts q, whose next message travels alone, at the end of its topic's.
func (a *aside) add(q *keyQueue) {
	t := a.topics[q.key.topic]
	if t == nil {
		t = &asideTopic{topic: q.key.topic}
		a.topics[t.topic] = t
		a.turn = append(a.turn, t)
	}
	t.waiting = append(t.waiting, q)
	q.listed = true
	q.lane.aside++
}

// pop takes the first of t out.
func (t *asideTopic) pop() {
	q := t.waiting[0]
	t.waiting = t.waiting[1:]
	q.listed = false
	q.lane.aside--
}

// first returns t's next; nil where there is none. What was dropped or marked in the meantime finds its place.
func (t *asideTopic) first() *keyQueue {
	for len(t.waiting) > 0 {
		q := t.waiting[0]
		if len(q.waiting) > 0 && q.waiting[0].alone {
			return q
		}
		t.pop()
		q.lane.list(q)
	}
	return nil
}

// next returns the key whose turn it is: of the topic with the fewest calls under way, and among those of the one that has waited
// longest. There are few calls, so that the topics do not have to be sorted.
func (a *aside) next() *keyQueue {
	var best *asideTopic
	for i := 0; i < len(a.turn) && (best == nil || a.flying[best.topic] > 0); {
		t := a.turn[i]
		if t.first() == nil {
			a.turn = slices.Delete(a.turn, i, i+1)
			delete(a.topics, t.topic)
			continue
		}
		if best == nil || a.flying[t.topic] < a.flying[best.topic] {
			best = t
		}
		i++
	}
	if best == nil {
		return nil
	}
	return best.first()
}

// serve takes out q, which next returned. It is another topic's turn then.
func (a *aside) serve(q *keyQueue) {
	i := slices.IndexFunc(a.turn, func(t *asideTopic) bool { return t.topic == q.key.topic })
	t := a.turn[i]
	t.pop()
	a.turn = append(slices.Delete(a.turn, i, i+1), t)
}

// load counts messages of topic in, or out.
func (a *aside) load(topic string, count, bytes int) {
	a.total.count += count
	a.total.bytes += bytes
	l := a.loads[topic]
	l.count += count
	l.bytes += bytes
	a.loads[topic] = l
	if l.count == 0 {
		delete(a.loads, topic)
	}
	a.eased = a.eased || count < 0
}

// most is what may be in memory.
func (e *engine) most() load { return load{e.config.InFlight, e.config.InFlightBytes} }

// reaches reports whether l is that part of most, or more, and exceeds whether it is more.
func (l load) reaches(part float64, most load) bool {
	return l.count >= max(1, int(part*float64(most.count))) || l.bytes >= max(1, int(part*float64(most.bytes)))
}

func (l load) exceeds(part float64, most load) bool {
	return l.count > int(part*float64(most.count)) || l.bytes > int(part*float64(most.bytes))
}

// full reports whether no further message of topic may wait aside. One topic's may take an eighth of the memory. From a quarter
// on, which few topics that hang have taken then, each other one's may take a little, up to a half: the rest is for what travels
// in batches.
func (a *aside) full(topic string, most load) bool {
	own := a.loads[topic]
	return own.reaches(1./8, most) || a.total.reaches(1./4, most) && own.reaches(1./64, most) || a.total.reaches(1./2, most)
}

// eases reports whether those of topic that could not wait aside are to be read again: about half of what is full has gone then.
func (a *aside) eases(topic string, most load) bool {
	own := a.loads[topic]
	return !own.exceeds(1./16, most) && !a.total.reaches(1./4, most) ||
		!own.exceeds(1./128, most) && !a.total.exceeds(3./8, most)
}

// crowdsAside reports whether so many messages wait aside that no scout may come to them.
func (e *engine) crowdsAside() bool { return e.aside.total.reaches(1./4, e.most()) }

// await holds key back from position on, until there is room aside.
func (e *engine) await(key orderKey, position int64) {
	h := e.addHold(key)
	h.passOver(position)
	e.aside.awaiting[key.topic] = append(e.aside.awaiting[key.topic], h)
	e.config.Hooks.held(h.held(key), nil)
	e.holdCrowded(key.topic)
}

// ringAside has the reader go back for keys for which there is room aside now.
func (e *engine) ringAside(now time.Time) {
	if !e.aside.eased {
		return
	}
	e.aside.eased = false
	for topic, holds := range e.aside.awaiting {
		if !e.aside.eases(topic, e.most()) {
			continue
		}
		for _, h := range holds {
			if e.keys[h.key] == h && h.ended() {
				e.waitUntil(h, now)
			}
		}
		delete(e.aside.awaiting, topic)
	}
}
