package core

import (
	"context"
	"fmt"
)

// Outbox is the writing side: it puts events into the caller's transaction. Safe for concurrent use.
type Outbox struct {
	dialect Dialect
}

// NewOutbox returns the writing side of the outbox that dialect stands for.
func NewOutbox(dialect Dialect) *Outbox {
	return &Outbox{dialect: dialect}
}

// Enqueue writes msgs into the outbox as part of tx, in argument order. They exist if and only if tx commits; call it
// as the last thing before COMMIT, so that transactions on one key enqueue in the order in which they changed their
// rows. Nothing is sent here: a [Relay] delivers what was committed.
//
// A message without an ID is given one by [NewID]; msgs itself is not changed, and nothing of it is kept. A
// *[MessageError] or [ErrNotInTransaction] means that nothing was written and tx is as usable as before. Any other
// error is the database's: roll tx back.
func (o *Outbox) Enqueue(ctx context.Context, tx Execer, msgs ...Message) error {
	if tx == nil || isPool(tx) {
		return fmt.Errorf("enqueue: %w", ErrNotInTransaction)
	}
	if len(msgs) == 0 {
		return nil
	}
	valid := make([]Message, len(msgs))
	for i, m := range msgs {
		if err := m.validate(i); err != nil {
			return fmt.Errorf("enqueue: %w", err)
		}
		if m.ID == "" {
			m.ID = NewID()
		}
		valid[i] = m
	}
	if err := o.dialect.Enqueue(ctx, tx, valid); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	return nil
}
