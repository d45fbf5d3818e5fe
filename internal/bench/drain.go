package bench

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
)

// dropWithin bounds the removal of what was made for a trial, whatever became of that.
const dropWithin = time.Minute

// trial is one drain.
type trial struct {
	way, database, broker string
	backlog               backlog
	archive               bool
	// around prepares the place beyond its backlog, and returns what undoes what must not outlive the trial.
	around func(ctx context.Context, d database, t trial) (undo func() error, err error)
	label  string // in the table; defaults to way
	batch  int    // of a batched loop
}

// run makes a place, fills it, has a child drain it, and reads what arrived. What the consumer objects to is in the delivery,
// and is no error.
func (b *bench) run(ctx context.Context, t trial) (o outcome, found *Delivery, err error) {
	undone, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropWithin)
	defer cancel()
	work := task{Way: t.way, Events: t.backlog.events, Payload: t.backlog.payload, Archive: t.archive, Batch: t.batch}
	t.backlog.topic = "bench" // what nobody publishes goes nowhere
	var to stream
	if t.broker != "" {
		if to, err = openStream(ctx, t.broker, b.config.Servers[t.broker]); err != nil {
			return o, nil, err
		}
		defer closing(&err, func() error { return to.drop(undone) })
		work.Broker, work.Topic, work.BrokerServer = to.place(), to.topic(), b.server(t.broker)
		t.backlog.topic = to.topic()
	}
	if t.database != "" {
		from, err := openDatabase(ctx, t.database, b.config.Servers[t.database])
		if err != nil {
			return o, nil, err
		}
		defer closing(&err, func() error { return from.drop(undone) })
		undo, err := b.prepare(ctx, from, t)
		if err != nil {
			return o, nil, err
		}
		defer closing(&err, undo)
		work.Database, work.DatabaseServer = from.place(), b.server(t.database)
	}
	if b.config.ProfileDir != "" && t.way == wayLockstep {
		b.profiles++
		work.Profile = filepath.Join(b.config.ProfileDir, fmt.Sprintf("%s-%s-%d", t.database, t.broker, b.profiles))
	}
	if o, err = perform(ctx, work); err != nil {
		return o, nil, err
	}
	if to == nil || t.way == wayRawBroker {
		return o, nil, nil
	}
	l := newLedger(work.Events)
	if err := to.read(ctx, l.add); err != nil {
		return o, nil, fmt.Errorf("consume: %w", err)
	}
	account := l.close()
	return o, &account, nil
}

// prepare makes the tables and fills them.
func (b *bench) prepare(ctx context.Context, from database, t trial) (undo func() error, err error) {
	d, err := from.dialect(t.archive)
	if err != nil {
		return nil, err
	}
	defer closing(&err, d.Close)
	if err := d.Migrate(ctx); err != nil {
		return nil, err
	}
	db, err := from.pool()
	if err != nil {
		return nil, err
	}
	defer closing(&err, db.Close)
	if t.way == wayTextbook || t.way == wayBatched {
		t.backlog.rival = true
		if err := createRival(ctx, db, from.statements()); err != nil {
			return nil, err
		}
	}
	undo = func() error { return nil }
	if t.around != nil {
		if undo, err = t.around(ctx, from, t); err != nil {
			return nil, err
		}
	}
	return undo, fill(ctx, db, from.statements(), t.backlog)
}

// server returns the process behind an address, or 0.
func (b *bench) server(kind string) int {
	if pid, known := b.servers[kind]; known {
		return pid
	}
	pid := serverOf(hostPort(kind, b.config.Servers[kind]))
	b.servers[kind] = pid
	return pid
}

func hostPort(kind, address string) string {
	switch kind {
	case MySQL, MariaDB:
		if c, err := mysqldriver.ParseDSN(address); err == nil {
			return c.Addr
		}
		return ""
	case Kafka:
		return address
	}
	if u, err := url.Parse(address); err == nil {
		return u.Host
	}
	return ""
}

// trials runs all of them, round by round, into a section.
func (b *bench) trials(ctx context.Context, s *Section, all []trial) error {
	for round := range b.config.Rounds {
		for i := range all {
			t := all[(i+round)%len(all)] // nobody always comes behind the same one
			label := t.way
			if t.label != "" {
				label = t.label
			}
			b.say("%s, round %d of %d: %s %s", s.Name, round+1, b.config.Rounds, places(t.database, t.broker), label)
			o, found, err := b.run(ctx, t)
			if err != nil {
				return fmt.Errorf("%s: %s %s: %w", s.Name, places(t.database, t.broker), label, err)
			}
			if found != nil && found.err() != nil {
				s.Faults = append(s.Faults, fmt.Sprintf("%s %s: %v", places(t.database, t.broker), label, found.err()))
			}
			s.add(t.database, t.broker, label, o.values(), found)
		}
	}
	return nil
}

func places(database, broker string) string {
	return strings.Trim(database+" → "+broker, " →")
}

// usual is the backlog of a drain.
func (b *bench) usual() backlog {
	return backlog{events: b.config.Events, keys: b.config.Keys, payload: b.config.PayloadBytes}
}

// The rivals are given less, because they are slow, and nothing about them depends on how much there is.
const (
	textbookShare = 50
	batchedShare  = 2
)

// drain measures the limits, Lockstep, and what teams write by hand.
func (b *bench) drain(ctx context.Context) (Section, error) {
	s := Section{Name: Drain, Title: fmt.Sprintf("Draining a backlog: %d events, %d keys, %d bytes", b.config.Events, b.config.Keys, b.config.PayloadBytes)}
	var all []trial
	for _, database := range b.config.Databases {
		all = append(all, trial{way: wayRawDatabase, database: database, backlog: b.usual()})
	}
	for _, broker := range b.config.Brokers {
		all = append(all, trial{way: wayRawBroker, broker: broker, backlog: b.usual()})
		for _, database := range b.config.Databases {
			pair := trial{database: database, broker: broker, backlog: b.usual(), batch: rawBatch}
			for _, way := range []string{wayBare, wayLockstep, wayBatched, wayTextbook} {
				t := pair
				t.way = way
				switch way {
				case wayBatched:
					t.backlog.events = max(1, t.backlog.events/batchedShare)
				case wayTextbook:
					t.backlog.events = max(1, t.backlog.events/textbookShare)
				}
				all = append(all, t)
			}
		}
	}
	if len(b.config.Brokers) == 0 {
		return s, errors.New("drain: there is no broker to drain to: give the address of one")
	}
	err := b.trials(ctx, &s, all)
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			s.drainRatios(database, broker)
		}
	}
	return s, err
}

// drainRatios compares Lockstep with the others, by what it was to reach.
func (s *Section) drainRatios(database, broker string) {
	bare, textbook, batched := 0.80, 50.0, 1.5
	if broker == RabbitMQ {
		bare, textbook, batched = 0.85, 20, 1
	}
	if row := s.find(database, broker, wayBare); row != nil {
		r := row.Values["events/s"].Median / s.limit(database, broker)
		void := ""
		if r < 0.5 {
			void = fmt.Sprintf("the bare pipeline reaches %.2f of the slower limit: less than half", r)
		}
		s.Ratios = append(s.Ratios, Ratio{Name: places(database, broker) + ": bare / the slower limit", AtLeast: 0.5, Stat: statOf([]float64{r})})
		s.compare(database, broker, wayLockstep, wayBare, "events/s", func(r *Ratio) { r.AtLeast, r.Void = bare, void })
	}
	s.compare(database, broker, wayLockstep, wayBatched, "events/s", atLeast(batched))
	s.compare(database, broker, wayLockstep, wayTextbook, "events/s", atLeast(textbook))
}

// limit is the lower median of the database's and the broker's.
func (s *Section) limit(database, broker string) float64 {
	least := 0.0
	for _, row := range []*Row{s.find(database, "", wayRawDatabase), s.find("", broker, wayRawBroker)} {
		if row != nil && (least == 0 || row.Values["events/s"].Median < least) {
			least = row.Values["events/s"].Median
		}
	}
	return least
}
