package conformance

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Call is one call over a connection to a [Memory], as a fault function sees it.
type Call struct {
	// Op is the method's name: Open and Close, those of core.Session, Listen, Notify for each announcement, and for
	// transactions Begin, Enqueue, Receive, LockRow, LockKeys, Savepoint, RollbackTo, Commit and Rollback; Forget has a
	// session of its own.
	Op string
	// Session counts the sessions from 1, those whose Open failed too, and the connections of Listen and Notify; 0 in a
	// transaction's call.
	Session int
	// Tx counts the transactions from 1; 0 in a session's call.
	Tx int
}

// Fault is what goes wrong with a call. Its zero value is nothing. A call that returns an error breaks its connection,
// and with it the transaction on it.
type Fault struct {
	// Before is the time from the call to its execution. A call whose context ends in it is not executed.
	Before time.Duration
	// After is the time from the execution to the answer. A call whose context ends in it was executed, and returns an
	// error.
	After time.Duration
	// Refuse is returned, and the call is not executed.
	Refuse error
	// Lose loses the answer of a call that was executed.
	Lose bool
	// Late executes a change all the same when its context ended before its time, as a server does that has received
	// the statement and not yet heard that its client left.
	Late bool
}

// conn is what a session and a transaction have in common: a connection that can break.
type conn struct {
	memory      *Memory
	session, tx int
	onBreak     func() // called with the memory's lock held

	busy atomic.Bool

	// Guarded by the memory's lock.
	broken error         // nil while it works
	gone   chan struct{} // closed when it breaks; made by the first wait
	left   bool          // the client gave up a statement that the server goes on with
}

// lateStatement is one whose client has left.
type lateStatement struct {
	due     time.Time
	execute func() error
}

// run is one call: the fault function's delays and losses around execute, which runs with the memory's lock held.
// detach copies what execute reads of the caller's; it is nil where there is nothing to copy.
func (c *conn) run(ctx context.Context, op string, execute func() error, detach func()) error {
	c.occupy(op)
	defer c.release()
	m := c.memory
	if c.isBroken() {
		return c.fail(op, ErrBroken)
	}
	fault := m.consult(Call{Op: op, Session: c.session, Tx: c.tx})
	late := fault.Late && c.outlives(op)
	var due time.Time
	if late {
		due = time.Now().Add(fault.Before)
	}
	if err := c.wait(ctx, fault.Before); err != nil {
		if late {
			if detach != nil {
				detach()
			}
			c.leave(due, execute)
		}
		return c.fail(op, err)
	}
	if fault.Refuse != nil {
		return c.fail(op, fault.Refuse)
	}
	m.mu.Lock()
	m.settle()
	err := c.broken
	if err == nil {
		err = execute()
	}
	m.mu.Unlock()
	if err != nil {
		return c.fail(op, err)
	}
	return c.answer(ctx, op, fault)
}

// answer is the answer's way back to the client.
func (c *conn) answer(ctx context.Context, op string, fault Fault) error {
	if err := c.wait(ctx, fault.After); err != nil {
		return c.fail(op, err)
	}
	if fault.Lose {
		return c.fail(op, ErrAnswerLost)
	}
	return nil
}

// occupy keeps the connection for one call. Two at a time break the port's contract in a way that no returned error
// would bring to light: the engine would take it for an outage.
func (c *conn) occupy(op string) {
	if !c.busy.CompareAndSwap(false, true) {
		panic(fmt.Sprintf("conformance: %s over a connection that another goroutine is using", op))
	}
}

func (c *conn) release() { c.busy.Store(false) }

// consult asks the fault function.
func (m *Memory) consult(call Call) Fault {
	m.injecting.Lock()
	defer m.injecting.Unlock()
	if m.inject == nil {
		return Fault{}
	}
	return m.inject(call)
}

// wait lets d pass. It ends early, with an error, when ctx ends or the connection breaks. An end of ctx at the very
// instant at which d is over counts as earlier, so that the result does not depend on which timer is looked at first.
func (c *conn) wait(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	c.memory.mu.Lock()
	if c.gone == nil {
		c.gone = make(chan struct{})
		if c.broken != nil {
			close(c.gone)
		}
	}
	gone := c.gone
	c.memory.mu.Unlock()

	var over <-chan time.Time
	if deadline, ok := ctx.Deadline(); !ok || deadline.After(time.Now().Add(d)) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		over = timer.C
	}
	select {
	case <-over:
		return nil
	case <-gone:
		return ErrBroken
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) isBroken() bool {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	return c.broken != nil
}

// fail breaks the connection for err.
func (c *conn) fail(op string, err error) error {
	c.memory.mu.Lock()
	defer c.memory.mu.Unlock()
	c.breakLocked(err)
	return fmt.Errorf("memory: %s: %w", op, err)
}

func (c *conn) breakLocked(err error) {
	if c.broken != nil {
		return
	}
	c.broken = ErrBroken
	if c.gone != nil {
		close(c.gone)
	}
	if c.onBreak != nil {
		c.onBreak()
	}
}

// outlives reports whether the server goes on with op when its client has left. What else a transaction has begun is
// rolled back with it, so there only the end matters.
func (c *conn) outlives(op string) bool {
	if c.tx > 0 {
		return op == "Commit" || op == "Rollback"
	}
	return op != "Open" && op != "Listen"
}

// leave hands a statement to the server, whose client does not wait for it any longer.
func (c *conn) leave(due time.Time, execute func() error) {
	m := c.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.broken != nil {
		return
	}
	c.left = true
	at, _ := slices.BinarySearchFunc(m.late, due, func(l lateStatement, due time.Time) int {
		if l.due.After(due) {
			return 1
		}
		return -1 // behind those of the same time
	})
	m.late = slices.Insert(m.late, at, lateStatement{due, execute})
	// Somebody may wait for a lock that this statement releases, and nobody else may call in the meantime.
	time.AfterFunc(time.Until(due), func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.settle()
	})
}

// settle executes the late statements whose time has come. Every look at the database comes after it.
func (m *Memory) settle() {
	if len(m.late) == 0 {
		return
	}
	now := time.Now()
	for len(m.late) > 0 && !m.late[0].due.After(now) {
		execute := m.late[0].execute
		m.late = m.late[1:]
		_ = execute() // nobody is left to be told
	}
}
