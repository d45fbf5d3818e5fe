package conformance

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ Tx          = (*MemoryTx)(nil)
	_ Savepointer = (*MemoryTx)(nil)
)

// MemoryTx is a transaction of the application on a [Memory]. Like a *sql.Tx it belongs to the context that it was
// begun with, returns sql.ErrTxDone once it has ended, and is used by one goroutine at a time. After any other error it
// has been rolled back, unless the error is Commit's: then its fate is unknown.
type MemoryTx struct {
	conn
	ctx context.Context // of Begin, for Commit and Rollback, which take none, like those of database/sql

	// Guarded by the memory's lock.
	ended    bool
	numbered bool         // it took positions
	rows     []*memoryRow // for the outbox
	delayed  []*memoryRow
	received []received
	marks    []memoryMark
	held     []lockName
	waitsFor *rowLock
	granted  chan struct{} // closed when waitsFor is its own, or the connection is broken
}

// memoryMark is how much a transaction had inserted at a savepoint.
type memoryMark struct{ rows, delayed, received int }

// Begin begins a transaction.
func (m *Memory) Begin(ctx context.Context) (*MemoryTx, error) {
	m.mu.Lock()
	m.lastTx++
	tx := &MemoryTx{conn: conn{memory: m, tx: m.lastTx}, ctx: ctx}
	m.mu.Unlock()
	err := tx.run(ctx, "Begin", func() error {
		m.open = append(m.open, tx)
		tx.onBreak = tx.abandonLocked
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return tx, nil
}

// ExecContext fails: there is no SQL here. It makes a [core.Execer] of the transaction.
func (tx *MemoryTx) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, fmt.Errorf("memory: exec: %w", errors.ErrUnsupported)
}

// Commit commits the transaction.
func (tx *MemoryTx) Commit() error {
	return tx.statement(tx.ctx, "Commit", func() error {
		m := tx.memory
		slices.SortFunc(tx.delayed, compareRows)
		m.insertRows(&m.outbox, tx.rows, true)
		m.insertRows(&m.delayed, tx.delayed, true)
		m.receive(tx.received)
		m.commit()
		tx.endLocked()
		return nil
	})
}

// Rollback rolls the transaction back.
func (tx *MemoryTx) Rollback() error {
	return tx.statement(tx.ctx, "Rollback", func() error {
		tx.endLocked()
		return nil
	})
}

// Savepoint sets a savepoint behind the ones there are.
func (tx *MemoryTx) Savepoint(ctx context.Context) error {
	return tx.statement(ctx, "Savepoint", func() error {
		tx.marks = append(tx.marks, memoryMark{len(tx.rows), len(tx.delayed), len(tx.received)})
		return nil
	})
}

// RollbackTo undoes what was inserted since the latest savepoint, which stays. Positions are not given back.
func (tx *MemoryTx) RollbackTo(ctx context.Context) error {
	return tx.statement(ctx, "RollbackTo", func() error {
		if len(tx.marks) == 0 {
			return errors.New("there is no savepoint")
		}
		mark := tx.marks[len(tx.marks)-1]
		tx.rows, tx.delayed, tx.received = tx.rows[:mark.rows], tx.delayed[:mark.delayed], tx.received[:mark.received]
		return nil
	})
}

// LockRow locks a row of the application's, and waits for the transaction that has it locked. It keeps the lock to its
// end.
func (tx *MemoryTx) LockRow(ctx context.Context, name string) error {
	return tx.lock(ctx, "LockRow", lockName{row: name})
}

// statement runs execute unless the transaction has ended.
func (tx *MemoryTx) statement(ctx context.Context, op string, execute func() error) error {
	if tx.done() {
		return sql.ErrTxDone
	}
	return tx.run(ctx, op, func() error {
		if tx.ended { // by a restart
			return ErrBroken
		}
		return execute()
	}, nil)
}

// done reports whether the transaction has ended by a call of its own. A broken one says so by ErrBroken instead.
func (tx *MemoryTx) done() bool {
	tx.memory.mu.Lock()
	defer tx.memory.mu.Unlock()
	return tx.ended && tx.broken == nil
}

// enqueue takes positions at once, long before they are committed.
func (tx *MemoryTx) enqueue(ctx context.Context, msgs []core.Message) error {
	return tx.statement(ctx, "Enqueue", func() error {
		m := tx.memory
		now := m.now()
		bytes := 0
		for i := range msgs {
			bytes += len(msgs[i].Payload)
		}
		payloads, rows := make([]byte, 0, bytes), make([]memoryRow, len(msgs))
		for i := range msgs {
			row := &rows[i]
			row.created, row.message = now, msgs[i]
			start := len(payloads)
			payloads = append(payloads, msgs[i].Payload...)
			row.message.Payload = payloads[start:len(payloads):len(payloads)]
			row.size = len(row.message.Payload) + len(row.message.Key)
			if len(msgs[i].Headers) > 0 {
				row.message.Headers = maps.Clone(msgs[i].Headers)
				for name, value := range row.message.Headers {
					row.size += len(name) + len(value)
				}
			}
			if due := msgs[i].NotBefore; !due.IsZero() {
				row.due = dueMicros(due)
				row.position = m.nextDelayed
				m.nextDelayed++
				tx.delayed = append(tx.delayed, row)
				continue
			}
			row.position = m.next
			m.next++
			tx.numbered = true
			tx.rows = append(tx.rows, row)
		}
		return nil
	})
}

// abandonLocked is what the server does when the connection breaks: it rolls back, unless it has a COMMIT to execute.
func (tx *MemoryTx) abandonLocked() {
	if !tx.left {
		tx.endLocked()
	}
}

func (tx *MemoryTx) endLocked() {
	if tx.ended {
		return
	}
	tx.ended = true
	m := tx.memory
	at := slices.Index(m.open, tx)
	m.open = slices.Delete(m.open, at, at+1)
	tx.stopWaiting()
	for _, name := range tx.held {
		m.release(name)
	}
}
