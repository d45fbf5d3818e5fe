package conformance

import (
	"cmp"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// memoryRow is a message in one of the tables. It does not change once it is committed: an update puts another in its
// place, so that the log can put the old one back.
type memoryRow struct {
	due      int64 // µs since 1970 that a delayed event waits for; 0 in the other tables
	position int64
	message  core.Message
	size     int // what counts towards FetchRequest.MaxBytes
	created  time.Time
	attempts int
	retryAt  time.Time

	// Of a dead letter.
	cause      string
	buried     time.Time
	droppedAt  time.Time // zero: it was not
	dropReason string

	delivered time.Time // of an archived event
}

func (r *memoryRow) record(now time.Time) core.Record {
	record := core.Record{Position: r.position, Message: r.message, Attempts: r.attempts}
	record.Message.EnqueuedAt = r.created
	if !r.retryAt.IsZero() {
		record.RetryIn = r.retryAt.Sub(now)
	}
	return record
}

func (r *memoryRow) deadLetter(now time.Time) core.DeadLetter {
	return core.DeadLetter{Record: r.record(now), Cause: r.cause, BuriedAt: r.buried, DropReason: r.dropReason}
}

func compareRows(a, b *memoryRow) int {
	return cmp.Or(cmp.Compare(a.due, b.due), compareRefs(a.ref(), b.ref()))
}

func (r *memoryRow) ref() core.Ref { return core.Ref{Position: r.position, ID: r.message.ID} }

func compareRefs(a, b core.Ref) int {
	return cmp.Or(cmp.Compare(a.Position, b.Position), cmp.Compare(a.ID, b.ID))
}

// memoryTable holds rows ascending by due time, position and id. Only the dead letters and the archive may hold a position
// twice: after a restart that lost commits it was used again.
type memoryTable struct{ rows []*memoryRow }

// from returns the index of the first row at or behind position, in a table without due times.
func (t *memoryTable) from(position int64) int {
	lo, hi := 0, len(t.rows)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if t.rows[mid].position < position {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// has reports whether there is a row at position.
func (t *memoryTable) has(position int64) bool {
	i := t.from(position)
	return i < len(t.rows) && t.rows[i].position == position
}

// find returns the index of the row that matches position and id, or -1.
func (t *memoryTable) find(ref core.Ref) int {
	i := t.from(ref.Position)
	if i == len(t.rows) || t.rows[i].position != ref.Position || t.rows[i].message.ID != ref.ID {
		return -1
	}
	return i
}

// index returns the index of row.
func (t *memoryTable) index(row *memoryRow) int {
	i, _ := slices.BinarySearchFunc(t.rows, row, compareRows)
	return i
}

// insert merges rows, which ascend and are not in t. It moves only what stands behind the first of them.
func (t *memoryTable) insert(rows []*memoryRow) {
	old := len(t.rows)
	t.rows = append(t.rows, rows...)
	if old == 0 || compareRows(t.rows[old-1], rows[0]) < 0 {
		return
	}
	w := len(t.rows)
	for i, k := old-1, len(rows)-1; k >= 0; {
		w--
		if i >= 0 && compareRows(t.rows[i], rows[k]) > 0 {
			t.rows[w] = t.rows[i]
			i--
		} else {
			t.rows[w] = rows[k]
			k--
		}
	}
}

// remove takes out the rows at indices, which ascend. It closes the holes from the side where less has to move:
// acknowledged records stand near the front of a table that may be long.
func (t *memoryTable) remove(indices []int) {
	first, last := indices[0], indices[len(indices)-1]
	if last < len(t.rows)-first {
		w := last + 1
		for k := len(indices) - 1; k >= 0; k-- {
			start := 0
			if k > 0 {
				start = indices[k-1] + 1
			}
			block := t.rows[start:indices[k]]
			w -= len(block)
			copy(t.rows[w:], block)
		}
		clear(t.rows[:w])
		t.rows = t.rows[w:]
		return
	}
	w := first
	for k, i := range indices {
		end := len(t.rows)
		if k+1 < len(indices) {
			end = indices[k+1]
		}
		w += copy(t.rows[w:], t.rows[i+1:end])
	}
	clear(t.rows[w:])
	t.rows = t.rows[:w]
}

func (t *memoryTable) records(now time.Time) []core.Record {
	records := make([]core.Record, len(t.rows))
	for i, row := range t.rows {
		records[i] = row.record(now)
	}
	return records
}
