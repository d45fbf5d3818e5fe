package core

import (
	"context"
	"time"
)

// unblockBatch is how many keys are unblocked before relays are given time to read.
const unblockBatch = 50

// UnblockAll lets every key go on that a dead letter blocks which matches filter: by topic, cause, age and so on. The letters
// stay, and their order is given up, as with Unblock; paused topics stay paused. It works key by key; after an error, or the end
// of ctx, n of them go on.
func (o *Operator) UnblockAll(ctx context.Context, filter DeadFilter) (n int, err error) {
	if filter.Dropped {
		return 0, ErrDropped
	}
	err = o.session(ctx, "unblock keys", func(s Session) error {
		asked, began := time.Now(), time.Now()
		for last := (BlockedKey{}); ; {
			keys, err := s.ListBlocked(ctx, last.Topic, last.Key, operatorBatch)
			if err != nil || len(keys) == 0 {
				return err
			}
			for _, last = range keys {
				done, err := unblockIf(ctx, s, filter.AsOf(asked), last)
				if err != nil {
					return err
				}
				if !done {
					continue
				}
				if n++; n%unblockBatch == 0 {
					pauseAfter(ctx, began)
					began = time.Now()
				}
			}
		}
	})
	return n, err
}

// unblockIf unblocks key if the dead letter that blocks it matches filter.
func unblockIf(ctx context.Context, s Session, filter DeadFilter, key BlockedKey) (bool, error) {
	if key.Key == "" || filter.Topic != "" && filter.Topic != key.Topic || filter.Key != "" && filter.Key != key.Key {
		return false, nil // a paused topic, or another key
	}
	filter.Topic, filter.Key = key.Topic, key.Key
	letters, err := s.ListDead(ctx, filter, Ref{Position: key.Position}, 1)
	if err != nil || len(letters) == 0 || letters[0].Position != key.Position {
		return false, err
	}
	return s.Unblock(ctx, key.Topic, key.Key)
}
