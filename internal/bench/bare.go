package bench

import (
	"context"
	"errors"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

// bareAhead is how many events wait for each lane, at most.
const bareAhead = 2000

// bare is the pipeline without any safety: what is read goes to the lane of its key, what a lane has waiting is published
// together, and what was published is deleted together.
func bare(ctx context.Context, t *task) (o outcome, err error) {
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
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	p := &pipeline{events: outboxTable(db, place.statements()), publishers: publishers, fail: fail, done: make(chan []int64, 2*lanes)}
	m := newMeter(t)
	read := p.run(ctx, t.Events)
	if ctx.Err() != nil {
		return o, context.Cause(ctx)
	}
	return m.stop(read), nil
}

// pipeline is a bare run.
type pipeline struct {
	events     *table
	publishers publisherSet
	fail       context.CancelCauseFunc
	done       chan []int64 // published
}

func (p *pipeline) run(ctx context.Context, events int) int {
	waiting := make([]chan row, lanes)
	var publishing, deleting sync.WaitGroup
	for lane := range lanes {
		waiting[lane] = make(chan row, bareAhead)
		publishing.Go(func() { p.publish(ctx, lane, waiting[lane]) })
	}
	deleting.Go(func() { p.remove(ctx) })
	read := p.read(ctx, events, waiting)
	for _, lane := range waiting {
		close(lane)
	}
	publishing.Wait()
	close(p.done)
	deleting.Wait()
	return read
}

func (p *pipeline) read(ctx context.Context, events int, waiting []chan row) int {
	read, after := 0, int64(0)
	for read < events {
		rows, err := p.events.read(ctx, after, rawFetch)
		if err == nil && len(rows) == 0 {
			err = errors.New("the outbox has fewer events than it was filled with")
		}
		if err != nil {
			p.fail(err)
			return read
		}
		for _, r := range rows {
			select {
			case waiting[laneOf(r.msg.Key)] <- r:
			case <-ctx.Done():
				return read
			}
		}
		read, after = read+len(rows), rows[len(rows)-1].position
	}
	return read
}

func (p *pipeline) publish(ctx context.Context, lane int, waiting <-chan row) {
	for first := range waiting {
		rows := append(make([]row, 0, rawBatch), first)
		for more := true; more && len(rows) < rawBatch; {
			select {
			case r, open := <-waiting:
				if more = open; open {
					rows = append(rows, r)
				}
			default:
				more = false
			}
		}
		msgs := make([]core.Message, len(rows))
		for i := range rows {
			msgs[i] = rows[i].msg
		}
		if err := p.publishers[lane].publish(ctx, msgs); err != nil {
			p.fail(err)
			return
		}
		select {
		case p.done <- positionsOf(rows):
		case <-ctx.Done():
			return
		}
	}
}

// remove deletes whatever has gathered since the last time.
func (p *pipeline) remove(ctx context.Context) {
	for positions := range p.done {
		for more := true; more && len(positions) < rawFetch; {
			select {
			case others, open := <-p.done:
				positions, more = append(positions, others...), open
			default:
				more = false
			}
		}
		if err := p.events.remove(ctx, positions); err != nil {
			p.fail(err)
			return
		}
	}
}
