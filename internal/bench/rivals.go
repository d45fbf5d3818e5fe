package bench

import (
	"context"
	"errors"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

// textbook reads what is not sent, publishes it one by one, and marks each when it was confirmed.
func textbook(ctx context.Context, t *task) (outcome, error) {
	return rival(ctx, t, textbookFetch, func(events *table, publishers publisherSet, rows []row) error {
		for _, r := range rows {
			if err := publishers[laneOf(r.msg.Key)].publish(ctx, []core.Message{r.msg}); err != nil {
				return err
			}
			if err := events.mark(ctx, []int64{r.position}); err != nil {
				return err
			}
		}
		return nil
	})
}

// batched reads a batch of what is not sent, publishes it together, and marks all of it.
func batched(ctx context.Context, t *task) (outcome, error) {
	return rival(ctx, t, t.Batch, func(events *table, publishers publisherSet, rows []row) error {
		parts := make([][]core.Message, lanes)
		for _, r := range rows {
			lane := laneOf(r.msg.Key)
			parts[lane] = append(parts[lane], r.msg)
		}
		errs := make([]error, lanes)
		var publishing sync.WaitGroup
		for lane, msgs := range parts {
			if len(msgs) > 0 {
				publishing.Go(func() { errs[lane] = publishers[lane].publish(ctx, msgs) })
			}
		}
		publishing.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		return events.mark(ctx, positionsOf(rows))
	})
}

// rival runs a loop over the rivals' table until it has carried everything.
func rival(ctx context.Context, t *task, fetch int, carry func(*table, publisherSet, []row) error) (o outcome, err error) {
	place, to := databaseAt(t.Database), streamAt(t.Broker, t.Topic)
	db, err := place.pool()
	if err != nil {
		return o, err
	}
	defer closing(&err, db.Close)
	publishers, err := openPublishers(to)
	defer closing(&err, publishers.close)
	if err != nil {
		return o, err
	}
	events := rivalOf(db, place.statements())
	m := newMeter(t)
	carried := 0
	for carried < t.Events {
		rows, err := events.read(ctx, 0, fetch)
		if err == nil && len(rows) == 0 {
			err = errors.New("the table has fewer events than it was filled with")
		}
		if err == nil {
			err = carry(events, publishers, rows)
		}
		if err != nil {
			return o, err
		}
		carried += len(rows)
	}
	return m.stop(carried), nil
}
