package bench

import (
	"fmt"
	"strconv"
)

// seqDigits is how many bytes of a payload, from its start, are the event's number in its key, from 0.
const seqDigits = 10

// Delivery is what a consumer found, held against what was enqueued.
type Delivery struct {
	Events     int `json:"events"` // different ones
	Duplicates int `json:"duplicates"`
	Missing    int `json:"missing"`
	// Overtaken counts first occurrences that came before that of the event before them, in their key.
	Overtaken int `json:"overtaken"`
	// Example is the first of the latter.
	Example string `json:"example,omitempty"`
}

// err returns nil where everything arrived, and in order.
func (d Delivery) err() error {
	switch {
	case d.Missing > 0:
		return fmt.Errorf("%d of %d events did not arrive", d.Missing, d.Missing+d.Events)
	case d.Overtaken > 0:
		return fmt.Errorf("%d events overtook an earlier one of their key, the first was %s", d.Overtaken, d.Example)
	}
	return nil
}

// ledger keeps a consumer's account. A key's messages must be added in the order in which they arrived.
type ledger struct {
	expected int
	keys     map[string]*account
	found    Delivery
}

// account is a key's: everything below next has arrived, and what is in ahead.
type account struct {
	next  int
	ahead map[int]bool
}

func newLedger(expected int) *ledger { return &ledger{expected: expected, keys: map[string]*account{}} }

func (l *ledger) add(key, payload []byte) error {
	if len(payload) < seqDigits {
		return fmt.Errorf("a payload of %d bytes arrived: nothing here sent it", len(payload))
	}
	seq, err := strconv.Atoi(string(payload[:seqDigits]))
	if err != nil {
		return fmt.Errorf("a payload arrived that nothing here sent: %w", err)
	}
	a := l.keys[string(key)]
	if a == nil {
		a = &account{}
		l.keys[string(key)] = a
	}
	switch {
	case seq < a.next || a.ahead[seq]:
		l.found.Duplicates++
		return nil
	case seq > a.next:
		if l.found.Overtaken++; l.found.Overtaken == 1 {
			l.found.Example = fmt.Sprintf("number %d of key %q, before number %d", seq, key, a.next)
		}
		if a.ahead == nil {
			a.ahead = map[int]bool{}
		}
		a.ahead[seq] = true
	default:
		for a.next++; a.ahead[a.next]; a.next++ {
			delete(a.ahead, a.next)
		}
	}
	l.found.Events++
	return nil
}

// close returns the account.
func (l *ledger) close() Delivery {
	l.found.Missing = l.expected - l.found.Events
	return l.found
}
