// Package outboxtest helps to test applications: which events did this call enqueue?
//
// A [Recorder] takes the dialect's place and notes what is enqueued. A test needs three lines besides its own: the
// recorder, an outbox on it, and [Compare].
//
//	recorder := outboxtest.NewRecorder()
//	shop := NewShop(db, core.NewOutbox(recorder, core.OutboxConfig{}))
//	// … call what is tested …
//	err := outboxtest.Compare(recorder.All(), core.Message{Topic: "orders", Key: "42", Payload: want})
//
// Enqueued is not committed. The recorder stands between the application and its transaction and does not see how the
// transaction ends: it lists the events of those that were rolled back or run again, too. Where that matters, test on a
// real database and ask it: [Committed] reads what a relay would. Both together are [Wrap].
package outboxtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

var _ core.Dialect = (*Recorder)(nil)

// Recorder is a dialect that notes what is enqueued through it. Safe for concurrent use.
type Recorder struct {
	core.Dialect // what is recorded goes here, and Open and Retryable come from here

	mu    sync.Mutex
	calls []call
}

// call is one Enqueue that succeeded.
type call struct {
	tx   core.Execer
	msgs []core.Message
}

// NewRecorder returns a recorder that writes nothing: the database needs no outbox table, and the transaction may be
// anything. It has key locks, which lock nothing.
func NewRecorder() *Recorder { return Wrap(nowhere{}) }

// Wrap returns a recorder in front of dialect, to which everything goes on.
func Wrap(dialect core.Dialect) *Recorder { return &Recorder{Dialect: dialect} }

// Unwrap returns the dialect behind the recorder.
func (r *Recorder) Unwrap() core.Dialect { return r.Dialect }

// Enqueue implements [core.Dialect]. What the dialect behind it refuses is not recorded.
func (r *Recorder) Enqueue(ctx context.Context, tx core.Execer, msgs []core.Message) error {
	if err := r.Dialect.Enqueue(ctx, tx, msgs); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, call{tx, clone(msgs)})
	return nil
}

// All returns what was enqueued so far, in order.
func (r *Recorder) All() []core.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []core.Message
	for _, c := range r.calls {
		all = append(all, clone(c.msgs)...)
	}
	return all
}

// Last returns what was enqueued in the transaction that enqueued last; nil where none did. Of a transaction that
// cannot be compared (a [core.ExecFunc]) that is its last Enqueue.
func (r *Recorder) Last() []core.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.calls) == 0 {
		return nil
	}
	last := r.calls[len(r.calls)-1]
	if !isComparable(last.tx) {
		return clone(last.msgs)
	}
	return r.find(last.tx)
}

// Enqueued returns what was enqueued in tx: the very value that was passed to Enqueue, which is the *sql.Tx where InTx
// did it. It panics when tx cannot be compared, as a [core.ExecFunc] cannot: an empty answer would be taken for none.
func (r *Recorder) Enqueued(tx core.Execer) []core.Message {
	if !isComparable(tx) {
		panic(fmt.Sprintf("outboxtest: a %T cannot be told from another: use Last or All", tx))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.find(tx)
}

// Reset forgets what was recorded.
func (r *Recorder) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = nil
}

// find returns what was enqueued in tx. The caller holds the lock.
func (r *Recorder) find(tx core.Execer) []core.Message {
	var found []core.Message
	for _, c := range r.calls {
		if isComparable(c.tx) && c.tx == tx {
			found = append(found, clone(c.msgs)...)
		}
	}
	return found
}

func isComparable(tx core.Execer) bool { return reflect.ValueOf(tx).Comparable() }

// clone copies msgs with all they refer to: Enqueue may not keep them, and a test may change what it is given.
func clone(msgs []core.Message) []core.Message {
	copied := make([]core.Message, len(msgs))
	for i, m := range msgs {
		m.Headers, m.Payload = maps.Clone(m.Headers), bytes.Clone(m.Payload)
		copied[i] = m
	}
	return copied
}

// nowhere is the dialect of a database that is not there.
type nowhere struct{}

func (nowhere) Enqueue(context.Context, core.Execer, []core.Message) error  { return nil }
func (nowhere) LockKeys(context.Context, core.Execer, []core.Message) error { return nil }
func (nowhere) Retryable(error) bool                                        { return false }
func (nowhere) Open(context.Context) (core.Session, error) {
	return nil, errors.New("outboxtest: NewRecorder writes nothing, so there is nothing to open: use Wrap with a real dialect")
}
