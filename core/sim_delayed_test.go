package core_test

import (
	"cmp"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
)

// delayed is what is known of a delayed event's place, which it takes when it comes due.
type delayed struct {
	key            string // with its topic
	due            int64  // in the table's unit, rounded up as there
	tx             *conformance.MemoryTx
	made, answered time.Time // answered is when its COMMIT was; zero: it was not
}

// delay takes e out of its key's order, where it has one.
func (e *event) delay(until time.Time) {
	if e.key == "" {
		return
	}
	e.delayed = &delayed{key: e.key, due: until.Add(time.Microsecond - time.Nanosecond).UnixMicro(), made: time.Now()}
	e.key = ""
}

func (e *event) enqueuedIn(tx *conformance.MemoryTx) {
	if e.delayed != nil {
		e.delayed.tx = tx
	}
}

func (e *event) committed() {
	if e.delayed != nil && e.certain {
		e.delayed.answered = time.Now()
	}
}

// precedes reports whether e takes its place before other, whenever the two come due and whatever the clocks say: other cannot be promoted
// before e can be seen, and delayed events are promoted by due time and then as they were enqueued.
func (e *event) precedes(other *event) bool {
	a, b := e.delayed, other.delayed
	seen := a.tx == b.tx || !a.answered.IsZero() && a.answered.Before(b.made)
	return seen && cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(e.order, other.order)) < 0
}

// overtaken looks for delayed events that were delivered before one of their key that precedes them. Those of a key are in the order in which
// they were first delivered.
func overtaken(keys map[string][]*event) (errs []error) {
	for _, events := range keys {
		for i, late := range events {
			for _, early := range events[:i] {
				if late.precedes(early) {
					errs = append(errs, fmt.Errorf("%s, which is delayed, is delivered for the first time after %s, which comes after it", late.id, early.id))
				}
			}
		}
	}
	return errs
}
