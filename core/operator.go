package core

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// operatorBatch bounds one transaction of a bulk action.
const operatorBatch = 500

// operatorPause is the least time between two transactions of a bulk action, and each pauses for as long as the one before it
// took. A relay begins to read anew after each of them, and would come to nothing else.
const operatorPause = 50 * time.Millisecond

// clockGrain is more than a database's clock rounds by: what died before a call began is by that much older than the call, at
// least.
const clockGrain = 5 * time.Millisecond

// ErrNoReason is returned by Drop without a reason: it is the only trace of why an event was never delivered.
var ErrNoReason = errors.New("drop needs a reason, which is kept with the dead letter")

// ErrDropped is returned by Retry, Drop and UnblockAll for a filter that selects what was dropped.
var ErrDropped = errors.New("DeadFilter.Dropped: a dead letter that was dropped stays so: enqueue the event again, with the same id, if it must be sent after all")

// ErrNotDead is returned by Show for an id that is no dead letter's.
var ErrNotDead = errors.New("no dead letter has this id: it is delivered, or still in the outbox, or was purged")

// ErrNoArchive is returned where the dialect keeps no delivered events at all.
var ErrNoArchive = errors.New("the database keeps no archive: its dialect has none")

// Operator looks after what could not be delivered, dead letters and blocked keys, and after what was, where it is kept.
// Safe for concurrent use, beside any number of relays, which notice each action at their next fetch.
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

// Show returns the dead letter with this message id, be it dropped or not; of several, as a restore leaves them, the one that
// is not dropped, and of those the latest. It returns [ErrNotDead] where there is none.
func (o *Operator) Show(ctx context.Context, id string) (letter DeadLetter, err error) {
	if id == "" {
		return DeadLetter{}, fmt.Errorf("show dead letter: %w", ErrNotDead)
	}
	err = o.session(ctx, "show dead letter", func(s Session) error {
		for _, dropped := range []bool{false, true} {
			letters, err := s.ListDead(ctx, DeadFilter{ID: id, Dropped: dropped}, Ref{}, operatorBatch)
			if err != nil {
				return err
			}
			if len(letters) > 0 {
				letter = letters[len(letters)-1]
				return nil
			}
		}
		return fmt.Errorf("%w: %s", ErrNotDead, id)
	})
	return letter, err
}

// Count counts the dead letters that match filter.
func (o *Operator) Count(ctx context.Context, filter DeadFilter) (n int64, err error) {
	err = o.session(ctx, "count dead letters", func(s Session) (err error) {
		n, err = s.CountDead(ctx, filter)
		return err
	})
	return n, err
}

// AsOf returns a filter for those that match f and were dead letters at then, by this process's clock: what an operator was shown
// at that time, and nothing that died since.
func (f DeadFilter) AsOf(then time.Time) DeadFilter {
	f.OlderThan += max(0, time.Since(then)-clockGrain)
	return f
}

// Retry puts every dead letter that matches filter back to its old position, and unblocks its key, so that the key's
// order holds. One whose position is taken, as it may be after a restore, stays a dead letter. Dead letters that were dropped stay
// so: it refuses a filter for them with [ErrDropped]. It works in batches; after an error, or the end of ctx, n of them are back,
// or more, where an answer was lost. One that becomes a dead letter again while it works is left alone.
func (o *Operator) Retry(ctx context.Context, filter DeadFilter) (n int, err error) {
	if filter.Dropped {
		return 0, ErrDropped
	}
	began := time.Now()
	return o.all(ctx, "retry dead letters", func(s Session) (int, error) {
		return s.RetryDead(ctx, filter.AsOf(began), operatorBatch)
	})
}

// Drop gives every dead letter that matches filter up for good, and unblocks its key. The letters stay in the database,
// marked with reason; DeadFilter.Dropped lists them. It works in batches; after an error n of them are dropped. What becomes a
// dead letter while it works is left alone.
func (o *Operator) Drop(ctx context.Context, filter DeadFilter, reason string) (n int, err error) {
	if reason == "" {
		return 0, ErrNoReason
	}
	if filter.Dropped {
		return 0, ErrDropped
	}
	began := time.Now()
	return o.all(ctx, "drop dead letters", func(s Session) (int, error) {
		return s.DropDead(ctx, filter.AsOf(began), reason, operatorBatch)
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

// Blocked returns the blocked keys that come after (topic, key) in bytewise order, at most limit. A paused topic is among
// them, with an empty key and position 0.
func (o *Operator) Blocked(ctx context.Context, afterTopic, afterKey string, limit int) (keys []BlockedKey, err error) {
	err = o.session(ctx, "list blocked keys", func(s Session) (err error) {
		keys, err = s.ListBlocked(ctx, afterTopic, afterKey, limit)
		return err
	})
	return keys, err
}

// Failing returns events that were refused and wait for their next attempt, or have had one since: those with attempts that
// come after position after, ascending, at most limit. Their keys are held back by whichever relay works. It reads the
// outbox up to there, payloads and all, and leaves out what is blocked: see [Operator.Blocked] for that.
func (o *Operator) Failing(ctx context.Context, after int64, limit int) (failing []Record, err error) {
	err = o.session(ctx, "list failing events", func(s Session) error {
		for more := true; more; {
			page, err := s.Fetch(ctx, FetchRequest{After: after, Limit: fetchLimit, MaxBytes: fetchBytes})
			if err != nil {
				return err
			}
			for _, r := range page.Records {
				if after = r.Position; r.Attempts == 0 {
					continue
				}
				if failing = append(failing, r); len(failing) == limit {
					return nil
				}
			}
			more = page.More && len(page.Records) > 0
		}
		return nil
	})
	return failing, err
}

// PauseTopic keeps the events of a topic in the outbox until ResumeTopic. What a relay has in memory by then, at most
// RelayConfig.InFlight, is still delivered. It reports whether the topic was not paused before.
func (o *Operator) PauseTopic(ctx context.Context, topic string) (changed bool, err error) {
	err = o.session(ctx, "pause topic", func(s Session) (err error) {
		changed, err = s.PauseTopic(ctx, topic)
		return err
	})
	return changed, err
}

// ResumeTopic ends a pause. It reports whether there was one.
func (o *Operator) ResumeTopic(ctx context.Context, topic string) (changed bool, err error) {
	err = o.session(ctx, "resume topic", func(s Session) (err error) {
		changed, err = s.ResumeTopic(ctx, topic)
		return err
	})
	return changed, err
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
			began := time.Now()
			done, err := batch(s)
			n += done
			if err != nil || done == 0 { // fewer than a batch may be the ones between letters that cannot be put back
				return err
			}
			if done == operatorBatch {
				pauseAfter(ctx, began)
			}
		}
	})
	return n, err
}

// pauseAfter lets relays read after a transaction that began at began.
func pauseAfter(ctx context.Context, began time.Time) {
	sleep(ctx, max(operatorPause, time.Since(began)))
}
