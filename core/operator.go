package core

import (
	"context"
	"errors"
	"fmt"
)

// operatorBatch bounds one transaction of a bulk action.
const operatorBatch = 500

// ErrNoReason is returned by Drop without a reason: it is the only trace of why an event was never delivered.
var ErrNoReason = errors.New("drop needs a reason, which is kept with the dead letter")

// Operator looks after what could not be delivered: dead letters and blocked keys. Safe for concurrent use, beside any
// number of relays, which notice each action at their next fetch.
type Operator struct {
	dialect Dialect
}

// NewOperator returns the operator's side of the outbox that dialect stands for.
func NewOperator(dialect Dialect) *Operator { return &Operator{dialect: dialect} }

// session runs use with a session of its own.
func (o *Operator) session(ctx context.Context, doing string, use func(Session) error) error {
	s, err := o.dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("%s: open session: %w", doing, err)
	}
	if err := errors.Join(use(s), s.Close()); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

// List returns the dead letters that match filter, ascending by position and id, those after after, at most limit.
func (o *Operator) List(ctx context.Context, filter DeadFilter, after Ref, limit int) (letters []DeadLetter, err error) {
	err = o.session(ctx, "list dead letters", func(s Session) (err error) {
		letters, err = s.ListDead(ctx, filter, after, limit)
		return err
	})
	return letters, err
}

// Count counts the dead letters that match filter.
func (o *Operator) Count(ctx context.Context, filter DeadFilter) (n int64, err error) {
	err = o.session(ctx, "count dead letters", func(s Session) (err error) {
		n, err = s.CountDead(ctx, filter)
		return err
	})
	return n, err
}

// Retry puts every dead letter that matches filter back to its old position, and unblocks its key, so that the key's
// order holds. It works in batches; after an error, or the end of ctx, n of them are back.
func (o *Operator) Retry(ctx context.Context, filter DeadFilter) (n int, err error) {
	return o.all(ctx, "retry dead letters", func(s Session) (int, error) { return s.RetryDead(ctx, filter, operatorBatch) })
}

// Drop gives every dead letter that matches filter up for good, and unblocks its key. The letters stay in the database,
// marked with reason; DeadFilter.Dropped lists them. It works in batches; after an error n of them are dropped.
func (o *Operator) Drop(ctx context.Context, filter DeadFilter, reason string) (n int, err error) {
	if reason == "" {
		return 0, ErrNoReason
	}
	return o.all(ctx, "drop dead letters", func(s Session) (int, error) {
		return s.DropDead(ctx, filter, reason, operatorBatch)
	})
}

// Unblock lets a key go on without its dead letters, which stay. Its order is given up: a dead letter that is retried
// later arrives after newer messages. It reports whether the key was blocked.
func (o *Operator) Unblock(ctx context.Context, topic, key string) (blocked bool, err error) {
	err = o.session(ctx, "unblock key", func(s Session) (err error) {
		blocked, err = s.Unblock(ctx, topic, key)
		return err
	})
	return blocked, err
}

// Blocked returns the blocked keys that come after (topic, key) in bytewise order, at most limit.
func (o *Operator) Blocked(ctx context.Context, afterTopic, afterKey string, limit int) (keys []BlockedKey, err error) {
	err = o.session(ctx, "list blocked keys", func(s Session) (err error) {
		keys, err = s.ListBlocked(ctx, afterTopic, afterKey, limit)
		return err
	})
	return keys, err
}

// Stats counts what the outbox holds.
func (o *Operator) Stats(ctx context.Context) (stats Stats, err error) {
	err = o.session(ctx, "read stats", func(s Session) (err error) {
		stats, err = s.Stats(ctx)
		return err
	})
	return stats, err
}

// all repeats a batch until it finds nothing more.
func (o *Operator) all(ctx context.Context, doing string, batch func(Session) (int, error)) (n int, err error) {
	err = o.session(ctx, doing, func(s Session) error {
		for {
			done, err := batch(s)
			n += done
			if err != nil || done < operatorBatch {
				return err
			}
		}
	})
	return n, err
}
