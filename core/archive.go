package core

import (
	"context"
	"time"
)

// archive runs use with the archive of a session of its own.
func (o *Operator) archive(ctx context.Context, doing string, use func(ArchiveStore) error) error {
	return o.session(ctx, doing, func(s Session) error {
		store, ok := Ability[ArchiveStore](s)
		if !ok {
			return ErrNoArchive
		}
		return use(store)
	})
}

// Archived returns the delivered events that were kept and match filter, ascending by position and id, those after after,
// at most limit.
func (o *Operator) Archived(ctx context.Context, filter ArchiveFilter, after Ref, limit int) (events []ArchivedEvent, err error) {
	err = o.archive(ctx, "list archived events", func(store ArchiveStore) (err error) {
		events, err = store.ListArchived(ctx, filter, after, limit)
		return err
	})
	return events, err
}

// CountArchived counts the delivered events that were kept and match filter. It reads them, payloads and all.
func (o *Operator) CountArchived(ctx context.Context, filter ArchiveFilter) (n int, err error) {
	err = o.archive(ctx, "count archived events", func(store ArchiveStore) (err error) {
		n, err = countArchived(ctx, store, filter)
		return err
	})
	return n, err
}

func countArchived(ctx context.Context, store ArchiveStore, filter ArchiveFilter) (n int, err error) {
	for after := (Ref{}); ; {
		page, err := store.ListArchived(ctx, filter, after, operatorBatch)
		if err != nil {
			return 0, err
		}
		n += len(page)
		if len(page) < operatorBatch {
			return n, nil
		}
		after = page[len(page)-1].Ref()
	}
}

// Replay has the delivered events that were kept and match filter delivered again, in their old order: copies of them take
// new places in the outbox, behind what is there, with the same ids, by which consumers may know them. What is delivered
// while Replay works is not replayed. It works in batches; after an error, or the end of ctx, at least n of them are in the outbox:
// where an answer was lost, one batch more may be, and called again it is there twice.
func (o *Operator) Replay(ctx context.Context, filter ArchiveFilter) (n int, err error) {
	err = o.archive(ctx, "replay archived events", func(store ArchiveStore) error {
		// What is replayed is delivered and kept again, at the archive's end, and would be replayed without end.
		left, err := countArchived(ctx, store, filter)
		if err != nil {
			return err
		}
		for after := (Ref{}); left > 0; {
			began := time.Now()
			done, last, err := store.Replay(ctx, filter, after, min(left, operatorBatch))
			if err != nil {
				return err
			}
			if done == 0 {
				return nil // purged in the meantime
			}
			if n, left, after = n+done, left-done, last; left > 0 {
				pauseAfter(ctx, began)
			}
		}
		return nil
	})
	return n, err
}

// Purge removes delivered events that were kept, and dead letters that were dropped, at least olderThan ago, by the
// database's clock. It works in batches; after an error, or the end of ctx, n of them are removed, or a batch more.
func (o *Operator) Purge(ctx context.Context, olderThan time.Duration) (n int, err error) {
	err = o.archive(ctx, "purge", func(store ArchiveStore) error {
		for {
			done, err := store.Purge(ctx, olderThan, operatorBatch)
			n += done
			if err != nil || done < operatorBatch {
				return err
			}
		}
	})
	return n, err
}
