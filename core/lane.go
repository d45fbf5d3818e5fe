package core

import "slices"

// lane is a sequence of publish calls, one at a time. A key always takes the same lane, and its messages wait in a
// queue of their own, so that a call is filled by looking past repeats without a search. A message that travels alone
// does so beside the lane's calls; its key waits for it.
type lane struct {
	keys  map[orderKey]*keyQueue
	ready []*keyQueue // keys whose next message may be sent in a batch, in the order in which they became so
	alone *aside      // where those keys wait whose next message travels alone, the other lanes' too
	aside int         // how many of this lane do
	busy  bool        // a batch is in flight
	// spare are queues that were used before: most keys come and go with a single message, and would each need a new one.
	spare []*keyQueue

	// count and bytes are of every message of the lane that is in flight, in the sense of [item], but for probes: those
	// wait for an outage's end, and must not keep others out.
	count, bytes int
	apart        load

	// full says that the lane had no room, and that everything for it from position from on was passed over.
	full bool
	from int64
}

// keyQueue is a key's messages in a lane, ascending by position.
type keyQueue struct {
	key     orderKey
	lane    *lane
	waiting []*item
	flying  int      // how many messages of the key are in a publish call; while there are any, no other call takes it
	alone   bool     // the message that flies travels alone
	passed  bool     // one of those that fly is read again, and so are those behind it
	listed  bool     // is in the lane's ready list, or aside
	one     [1]*item // where waiting begins
}

func newLane(alone *aside) *lane { return &lane{keys: map[orderKey]*keyQueue{}, alone: alone} }

// add puts it at the end of its key's queue.
func (l *lane) add(it *item) {
	q := l.keys[it.key]
	if q == nil {
		q = l.queue()
		q.key = it.key
		l.keys[it.key] = q
	}
	q.waiting = append(q.waiting, it)
	l.list(q)
}

// queue returns an empty queue.
func (l *lane) queue() *keyQueue {
	n := len(l.spare)
	if n == 0 {
		q := &keyQueue{lane: l}
		q.waiting = q.one[:0]
		return q
	}
	q := l.spare[n-1]
	l.spare = l.spare[:n-1]
	return q
}

// blocked reports whether a message of key travels alone, or waits to.
func (l *lane) blocked(key orderKey) bool {
	q := l.keys[key]
	return q != nil && (q.alone || len(q.waiting) > 0 && q.waiting[0].alone)
}

// retire forgets a queue that is empty.
func (l *lane) retire(q *keyQueue) {
	delete(l.keys, q.key)
	*q = keyQueue{lane: l}
	q.waiting = q.one[:0]
	l.spare = append(l.spare, q)
}

// list puts q where its next message is looked for, if it has one that may be sent.
func (l *lane) list(q *keyQueue) {
	switch {
	case q.listed || q.flying > 0:
	case len(q.waiting) == 0:
		l.retire(q)
	case q.waiting[0].alone:
		l.alone.add(q)
	default:
		q.listed = true
		l.ready = append(l.ready, q)
	}
}

// takeBatch takes the messages of the next call: one of each ready key, or several where the broker keeps them in
// order, within both bounds, of which the first message may exceed the second.
func (l *lane) takeBatch(maxCount, maxBytes int, several bool) []*item {
	var batch []*item
	bytes := 0
	fits := func(q *keyQueue) bool {
		return len(q.waiting) > 0 && !q.waiting[0].alone && len(batch) < maxCount &&
			(len(batch) == 0 || bytes+q.waiting[0].bytes <= maxBytes)
	}
	for len(l.ready) > 0 {
		q := l.ready[0]
		if len(q.waiting) > 0 && !q.waiting[0].alone && !fits(q) {
			break
		}
		l.ready = l.ready[1:]
		q.listed = false
		for fits(q) {
			it := q.take()
			batch = append(batch, it)
			bytes += it.bytes
			if !several {
				break
			}
		}
		l.list(q) // what was dropped or marked in the meantime finds its place
	}
	return batch
}

// first returns the message that the next batch begins with; nil where none waits.
func (l *lane) first() *item {
	for len(l.ready) > 0 {
		q := l.ready[0]
		if len(q.waiting) > 0 && !q.waiting[0].alone {
			return q.waiting[0]
		}
		l.ready = l.ready[1:]
		q.listed = false
		l.list(q)
	}
	return nil
}

func (q *keyQueue) take() *item {
	it := q.waiting[0]
	q.waiting[0] = nil // the slice may be used again long after
	q.waiting = q.waiting[1:]
	q.flying++
	q.alone = it.alone
	it.queue = q
	return it
}

// landed says that a message that was taken is no longer in a publish call.
func (l *lane) landed(it *item) {
	q := it.queue
	it.queue = nil
	q.flying--
	q.alone, q.passed = q.alone && q.flying > 0, q.passed && q.flying > 0
	l.list(q)
}

// drop takes every waiting message of key out of the lane and returns them.
func (l *lane) drop(key orderKey) []*item {
	q := l.keys[key]
	if q == nil {
		return nil
	}
	dropped := slices.Clone(q.waiting)
	clear(q.waiting)
	q.waiting = q.waiting[:0]
	l.list(q)
	return dropped
}

// dropIf takes every waiting message out whose key satisfies match, and returns them.
func (l *lane) dropIf(match func(orderKey) bool) []*item {
	var dropped []*item
	for key := range l.keys {
		if match(key) {
			dropped = append(dropped, l.drop(key)...)
		}
	}
	return dropped
}

// waits reports whether a message waits to be sent.
func (l *lane) waits() bool { return len(l.ready) > 0 || l.aside > 0 }
