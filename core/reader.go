package core

import "slices"

// reader knows what has been read over one reading session: a cursor, the gaps below it, and what is in flight. It
// decides what to read next; the engine decides what becomes of the records.
//
// There is one cursor. Going back moves it back, and everything from there on is read again in order; what is in flight
// is passed over. So a record that was passed over while its key was held back, or its lane full, is never overtaken by
// a later one of its key.
type reader struct {
	cursor int64 // everything at or before it was read, but for the gaps
	high   int64 // the highest position ever read; gaps are looked for only behind it
	gaps   []Gap // ascending, disjoint, all at or before high

	maxGaps int   // in a request
	askedTo int64 // where the next question who could fill the gaps begins
	// news says that the last fetch moved the cursor, brought something to dispatch, or found a gap to be empty for good. Without
	// it another one would read the same again, even where the last ended at its limit.
	news bool

	// rewindEnd is where the last rewind began. Until the cursor is there again, no other begins: rewinds that follow
	// hard on one another would keep the reader from ever reaching the tail.
	rewindEnd int64
	// debt is how many records were read again on the ways back for holds, and not yet made up for by as many new ones. Until it is paid, or
	// the tail reached, no other hold ends: keys that come due one after another would keep the reader from what it has
	// never read. borrowing says that the way back under way is such a one.
	debt      int
	borrowing bool

	generation  int64
	incarnation string
	known       bool // generation and incarnation are those of an earlier fetch

	flight map[int64]*item // by position

	fetching bool
	asked    FetchRequest // by the outstanding fetch
	stale    bool         // the outstanding fetch began before a rewind: its records are not dispatched
	// leaving are positions whose deletion was committed while a fetch was outstanding. It may have begun earlier, and
	// return them, so they stay in flight until it has returned.
	leaving []int64

	more    bool  // the last fetch stopped at its limit
	fetched int64 // fetches that returned, for those who wait for one
}

func newReader(maxGaps int) *reader { return &reader{maxGaps: maxGaps, flight: map[int64]*item{}} }

// request returns what to fetch next, and notes that it is outstanding.
func (r *reader) request(limit, maxBytes int) FetchRequest {
	request := FetchRequest{After: r.cursor, Gaps: r.ranges(), Limit: limit, MaxBytes: maxBytes}
	r.fetching, r.stale, r.asked = true, false, request
	return request
}

// returned notes that the outstanding fetch is over, and returns the items that leave the flight with it.
func (r *reader) returned() []*item {
	r.fetching = false
	r.fetched++
	var gone []*item
	for _, position := range r.leaving {
		if it := r.flight[position]; it != nil {
			gone = append(gone, it)
			delete(r.flight, position)
		}
	}
	r.leaving = r.leaving[:0]
	return gone
}

// advance takes in a result that is to be dispatched: it moves the cursor, finds new gaps, and closes those that were
// filled or are dead.
func (r *reader) advance(result FetchResult) {
	r.more = result.More
	r.account(result)
	last := r.cursor
	for i := range result.Records {
		position := result.Records[i].Position
		r.fill(position)
		last = max(last, position)
		if position > r.high {
			if position > r.high+1 {
				r.gaps = append(r.gaps, Gap{Range: Range{r.high + 1, position - 1}})
			}
			r.high = position
		}
	}
	if !result.More {
		last = max(last, r.high)
	}
	// How far the snapshot was looked at: gaps before it that were proved dead earlier are empty for good.
	looked := last
	if result.More && len(result.Records) > 0 {
		looked = result.Records[len(result.Records)-1].Position
	}
	n := len(r.gaps)
	r.gaps = slices.DeleteFunc(r.gaps, func(g Gap) bool { return g.Dead && g.Last <= looked })
	r.news = last > r.cursor || len(r.gaps) < n
	r.cursor = last
	if len(r.gaps) > mostGaps*r.maxGaps {
		r.mergeGaps()
	}
}

// account keeps r's debt.
func (r *reader) account(result FetchResult) {
	switch n := len(result.Records); {
	case !result.More:
		r.debt, r.borrowing = 0, false
	case !r.rewinding():
		r.debt, r.borrowing = max(0, r.debt-n), false
	case r.borrowing:
		r.debt += n
	}
}

// fill takes position out of the gap that it is in.
func (r *reader) fill(position int64) {
	i, _ := slices.BinarySearchFunc(r.gaps, position, func(g Gap, p int64) int {
		switch {
		case g.Last < p:
			return -1
		case g.First > p:
			return 1
		}
		return 0
	})
	if i == len(r.gaps) || r.gaps[i].First > position {
		return
	}
	g := r.gaps[i]
	var parts []Gap
	if g.First < position {
		parts = append(parts, Gap{Range{g.First, position - 1}, g.Witness, g.Dead})
	}
	if position < g.Last {
		parts = append(parts, Gap{Range{position + 1, g.Last}, g.Witness, g.Dead})
	}
	r.gaps = slices.Replace(r.gaps, i, i+1, parts...)
}

// mergeGaps keeps the number of gaps in bounds: it joins the upper half of them two by two. What lies between counts as
// unread again, and nothing is known of the new range's writers. The lower half is left alone, because that is where the
// reader is, and what is known of its writers must not be forgotten each time.
func (r *reader) mergeGaps() {
	half := len(r.gaps) / 2
	merged := r.gaps[:half]
	for i := half; i < len(r.gaps); i += 2 {
		g := r.gaps[i]
		if i+1 < len(r.gaps) {
			next := r.gaps[i+1]
			g = Gap{Range: Range{g.First, next.Last}, Dead: g.Dead && next.Dead}
		}
		merged = append(merged, g)
	}
	r.gaps = merged
}

// rewinding reports whether the reader is on its way back to where it was.
func (r *reader) rewinding() bool { return r.cursor < r.rewindEnd }

// rewind makes position the next one to be read. The outstanding fetch began before, so that its records would be out
// of order: they are read again.
func (r *reader) rewind(position int64) {
	r.stale = true
	r.rewindEnd = max(r.rewindEnd, r.cursor)
	r.cursor = min(r.cursor, position-1)
}

// left notes that it is no longer in the outbox, or no longer the relay's concern, and reports whether it leaves the
// flight now; otherwise it does when the outstanding fetch has returned.
func (r *reader) left(it *item) bool {
	position := it.record.Position
	if r.flight[position] != it {
		return false
	}
	if r.fetching {
		r.leaving = append(r.leaving, position)
		return false
	}
	delete(r.flight, position)
	return true
}
