package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// The application of the latency and writes sections: each transaction updates an account and inserts an order.
const (
	accounts   = 1000
	appClients = 16
)

// createApp makes the application's tables.
func createApp(ctx context.Context, db *sql.DB, s statements) error {
	for _, statement := range []string{
		"CREATE TABLE bench_account (id " + s.position + ", balance bigint NOT NULL)" + s.suffix,
		"CREATE TABLE bench_order (id " + s.position + ", account bigint NOT NULL, note " + s.text + " NOT NULL)" + s.suffix,
		"INSERT INTO bench_account (balance) SELECT 0 FROM " + fmt.Sprintf(s.series, accounts),
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("make the application's tables: %w", err)
		}
	}
	return nil
}

// app is the application, in a child.
type app struct {
	db             *sql.DB
	update, insert string
	event          string // the hand-written INSERT
	topic          string
	payload        []byte
}

func newApp(db *sql.DB, s statements, t *task) *app {
	return &app{
		db:     db,
		update: "UPDATE bench_account SET balance = balance + 1 WHERE id = " + s.parameter(1),
		insert: "INSERT INTO bench_order (account, note) VALUES (" + s.parameter(1) + ", " + s.parameter(2) + ")",
		event: fmt.Sprintf("INSERT INTO outbox (id, topic, %s, headers, payload) VALUES (%s, %s, %s, '{}', %s)",
			s.key, s.parameter(1), s.parameter(2), s.parameter(3), s.parameter(4)),
		topic: t.Topic, payload: []byte(strings.Repeat("0", seqDigits) + strings.Repeat("x", max(0, t.Payload-seqDigits))),
	}
}

// openApp opens the pool of the application: that of the dialect, where it has one.
func openApp(d dialect, place database) (db *sql.DB, closePool func() error, err error) {
	if own, ok := core.Ability[interface{ DB() *sql.DB }, core.Dialect](d); ok {
		return own.DB(), func() error { return nil }, nil
	}
	db, err = place.pool()
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(appClients)
	db.SetMaxIdleConns(appClients)
	return db, db.Close, nil
}

// transact runs one transaction, with what enqueue does in it at its end.
func (a *app) transact(ctx context.Context, enqueue func(tx *sql.Tx, account int) error) error {
	tx, err := a.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	account := 1 + rand.IntN(accounts)
	if _, err := tx.ExecContext(ctx, a.update, account); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, a.insert, account, "an order"); err != nil {
		return err
	}
	if enqueue != nil {
		if err := enqueue(tx, account); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// message is the event of an order.
func (a *app) message(id string, account int) core.Message {
	return core.Message{ID: id, Topic: a.topic, Key: fmt.Sprintf("%010d", account), Payload: a.payload}
}

// The ways of the writes section.
const (
	wayNoOutbox = "no outbox"
	wayByHand   = "INSERT by hand"
	wayEnqueue  = "Enqueue"
	wayInTxWake = "Enqueue, announced"
)

// writes runs transactions side by side for the task's time.
func writes(ctx context.Context, t *task) (o outcome, err error) {
	place := databaseAt(t.Database)
	d, err := place.dialect(false)
	if err != nil {
		return o, err
	}
	defer closing(&err, d.Close)
	db, closePool, err := openApp(d, place)
	if err != nil {
		return o, err
	}
	defer closing(&err, closePool)
	a := newApp(db, place.statements(), t)
	outbox := core.NewOutbox(d, core.OutboxConfig{Logger: slog.New(slog.DiscardHandler)})
	enqueue := map[string]func(*sql.Tx, int) error{
		wayByHand: func(tx *sql.Tx, account int) error {
			m := a.message(core.NewID(), account)
			_, err := tx.ExecContext(ctx, a.event, m.ID, m.Topic, m.Key, m.Payload)
			return err
		},
		wayEnqueue: func(tx *sql.Tx, account int) error { return outbox.Enqueue(ctx, tx, a.message("", account)) },
	}
	enqueue[wayInTxWake] = enqueue[wayEnqueue]
	announcing, stop := context.WithCancel(ctx)
	var announcer sync.WaitGroup
	if t.Way == wayInTxWake {
		announcer.Go(func() { outbox.Run(announcing) })
	}
	defer announcer.Wait()
	defer stop()
	var running sync.WaitGroup
	var done atomic.Int64
	errs := make([]error, appClients)
	m := newMeter(t)
	for client := range appClients {
		running.Go(func() {
			for first := true; (first || time.Since(m.began) < t.For) && errs[client] == nil; first = false {
				errs[client] = a.transact(ctx, enqueue[t.Way])
				if t.Way == wayInTxWake {
					outbox.Wake()
				}
				done.Add(1)
			}
		})
	}
	running.Wait()
	return m.stop(int(done.Load())), errors.Join(errs...)
}

// measureWrites measures what an outbox costs the application. No relay runs.
func (b *bench) measureWrites(ctx context.Context) (Section, error) {
	s := Section{Name: Writes, Title: fmt.Sprintf("The application's transactions, %d at a time, without a relay", appClients)}
	all := []string{wayNoOutbox, wayByHand, wayEnqueue, wayInTxWake}
	for round := range b.config.Rounds {
		for _, database := range b.config.Databases {
			for i := range all {
				way := all[(i+round)%len(all)]
				b.say("%s, round %d of %d: %s %s", s.Name, round+1, b.config.Rounds, database, way)
				o, err := b.withApp(ctx, database, "", func(t task) (outcome, error) {
					t.Way = way
					return perform(ctx, t)
				})
				if err != nil {
					return s, fmt.Errorf("%s: %s %s: %w", s.Name, database, way, err)
				}
				v := o.values()
				v["tx/s"] = v["events/s"]
				delete(v, "events/s")
				s.add(database, "", way, v, nil)
			}
		}
	}
	for _, database := range b.config.Databases {
		s.compare(database, "", wayEnqueue, wayByHand, "tx/s", atLeast(0.97))
		s.compare(database, "", wayInTxWake, wayEnqueue, "tx/s", atLeast(0.95))
		s.compare(database, "", wayEnqueue, wayNoOutbox, "tx/s", nil)
	}
	return s, nil
}

// withApp makes a place with the application's tables, and a topic where there is a broker, for as long as run takes.
func (b *bench) withApp(ctx context.Context, database, broker string, run func(t task) (outcome, error)) (o outcome, err error) {
	undone, cancel := context.WithTimeout(context.WithoutCancel(ctx), b.config.For+2*dropWithin)
	defer cancel()
	t := task{Payload: b.config.PayloadBytes, For: b.config.For, Topic: "bench"}
	if broker != "" {
		to, err := openStream(ctx, broker, b.config.Servers[broker])
		if err != nil {
			return o, err
		}
		defer closing(&err, func() error { return to.drop(undone) })
		t.Broker, t.Topic, t.BrokerServer = to.place(), to.topic(), b.server(broker)
	}
	from, err := openDatabase(ctx, database, b.config.Servers[database])
	if err != nil {
		return o, err
	}
	defer closing(&err, func() error { return from.drop(undone) })
	if err := migrateApp(ctx, from); err != nil {
		return o, err
	}
	t.Database, t.DatabaseServer = from.place(), b.server(database)
	return run(t)
}

func migrateApp(ctx context.Context, from database) (err error) {
	d, err := from.dialect(false)
	if err != nil {
		return err
	}
	defer closing(&err, d.Close)
	if err := d.Migrate(ctx); err != nil {
		return err
	}
	db, err := from.pool()
	if err != nil {
		return err
	}
	defer closing(&err, db.Close)
	return createApp(ctx, db, from.statements())
}
