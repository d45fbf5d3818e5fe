package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/lockstep-go/lockstep/core"
)

// The ways of a drain.
const (
	wayRawDatabase = "raw database"
	wayRawBroker   = "raw broker"
	wayBare        = "bare"
	wayLockstep    = "lockstep"
	wayBatched     = "batched"
	wayTextbook    = "textbook"
)

const (
	// rawFetch is how many rows the ways without Lockstep read at a time, and rawBatch how many they publish together.
	rawFetch = 2000
	rawBatch = 1000
	// textbookFetch is how many rows the textbook relay reads at a time.
	textbookFetch = 100
)

// table is the outbox, or the rivals' table, as hand-written SQL uses it.
type table struct {
	db   *sql.DB
	sql  statements
	name string
	id   string // the column of the position
	from string // the condition for what is read, before the position
}

func outboxTable(db *sql.DB, s statements) *table { return &table{db, s, "outbox", "position", ""} }
func rivalOf(db *sql.DB, s statements) *table {
	return &table{db, s, rivalTable, "id", "sent_at IS NULL AND "}
}

// row is an event as hand-written code reads it.
type row struct {
	position int64
	msg      core.Message
}

// read returns the next rows behind a position. The statement has no arguments, so that it takes one round trip.
func (t *table) read(ctx context.Context, after int64, limit int) ([]row, error) {
	found, err := t.db.QueryContext(ctx, fmt.Sprintf("SELECT %s, topic, %s, payload FROM %s WHERE %s%s > %d ORDER BY %s LIMIT %d",
		t.id, t.sql.key, t.name, t.from, t.id, after, t.id, limit))
	if err != nil {
		return nil, err
	}
	defer found.Close()
	rows := make([]row, 0, limit)
	for found.Next() {
		var r row
		if err := found.Scan(&r.position, &r.msg.Topic, &r.msg.Key, &r.msg.Payload); err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, found.Err()
}

// remove deletes rows.
func (t *table) remove(ctx context.Context, positions []int64) error {
	_, err := t.db.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE "+t.in(positions))
	return err
}

// mark says that rows were sent.
func (t *table) mark(ctx context.Context, positions []int64) error {
	_, err := t.db.ExecContext(ctx, "UPDATE "+t.name+" SET sent_at = "+t.sql.now+" WHERE "+t.in(positions))
	return err
}

func (t *table) in(positions []int64) string {
	if t.sql.parameter(1) == "$1" { // PostgreSQL reads an array faster than a list
		return t.id + " = ANY ('{" + list(positions) + "}')"
	}
	return t.id + " IN (" + list(positions) + ")"
}

func positionsOf(rows []row) []int64 {
	positions := make([]int64, len(rows))
	for i, r := range rows {
		positions[i] = r.position
	}
	return positions
}

// rawDatabase reads and deletes over two connections at once.
func rawDatabase(ctx context.Context, t *task) (o outcome, err error) {
	place := databaseAt(t.Database)
	db, err := place.pool()
	if err != nil {
		return o, err
	}
	defer closing(&err, db.Close)
	events := outboxTable(db, place.statements())
	m := newMeter(t)
	done, failed := make(chan []int64, 4), make(chan error, 1)
	var deleting sync.WaitGroup
	deleting.Go(func() {
		for positions := range done {
			if err := events.remove(ctx, positions); err != nil {
				failed <- err
				return
			}
		}
	})
	read, after := 0, int64(0)
	for read < t.Events && err == nil {
		var rows []row
		if rows, err = events.read(ctx, after, rawFetch); err != nil || len(rows) == 0 {
			break
		}
		read, after = read+len(rows), rows[len(rows)-1].position
		select {
		case done <- positionsOf(rows):
		case err = <-failed:
		}
	}
	close(done)
	deleting.Wait()
	select {
	case also := <-failed:
		err = errors.Join(err, also)
	default:
	}
	return m.stop(read), err
}

// rawBroker publishes from as many publishers as there are lanes.
func rawBroker(ctx context.Context, t *task) (o outcome, err error) {
	to := streamAt(t.Broker, t.Topic)
	publishers, err := openPublishers(to)
	defer closing(&err, publishers.close)
	if err != nil {
		return o, err
	}
	payload := []byte(strings.Repeat("0", seqDigits) + strings.Repeat("x", max(0, t.Payload-seqDigits)))
	msgs := make([]core.Message, rawBatch)
	for i := range msgs {
		msgs[i] = core.Message{ID: core.NewID(), Topic: t.Topic, Key: fmt.Sprintf("%010d", i), Payload: payload}
	}
	m := newMeter(t)
	var left, sent atomic.Int64
	left.Store(int64(t.Events))
	errs := make([]error, lanes)
	var running sync.WaitGroup
	for lane := range lanes {
		running.Go(func() {
			for errs[lane] == nil {
				n := min(rawBatch, left.Add(-rawBatch)+rawBatch)
				if n <= 0 {
					return
				}
				errs[lane] = publishers[lane].publish(ctx, msgs[:n])
				sent.Add(n)
			}
		})
	}
	running.Wait()
	return m.stop(int(sent.Load())), errors.Join(errs...)
}

// publisherSet has a publisher for each lane.
type publisherSet []publisher

func openPublishers(to stream) (publisherSet, error) {
	var all publisherSet
	for lane := range lanes {
		p, err := to.publisher(lane)
		if err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (all publisherSet) close() error {
	var errs []error
	for _, p := range all {
		errs = append(errs, p.close())
	}
	return errors.Join(errs...)
}
