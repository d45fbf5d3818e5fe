package bench

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// The ways of the idle section: a relay, and what nobody can do without who asks as often.
const (
	wayIdle = "idle"
	wayPoll = "SELECT 1"
)

// pollsPerSecond is how often an idle relay may ask.
const pollsPerSecond = 12

// settleFor is what is not counted of an idle relay, at its start.
const settleFor = 2 * time.Second

// idle runs a relay that has nothing to do.
func idle(ctx context.Context, t *task) (o outcome, err error) {
	place, to := databaseAt(t.Database), streamAt(t.Broker, t.Topic)
	d, err := place.dialect(false)
	if err != nil {
		return o, err
	}
	defer closing(&err, d.Close)
	broker, closeBroker, err := to.broker()
	if err != nil {
		return o, err
	}
	defer closing(&err, closeBroker)
	counted := &countingDialect{Dialect: d}
	relay, err := core.NewRelay(counted, broker, core.RelayConfig{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return o, err
	}
	running, stop := context.WithCancel(ctx)
	var end sync.WaitGroup
	defer end.Wait()
	defer stop()
	end.Go(func() { _ = relay.Run(running) })
	pause(ctx, settleFor)
	before, m := counted.calls.Load(), newMeter(t)
	pause(ctx, t.For)
	for ctx.Err() == nil && counted.calls.Load() == before { // on a machine that stood still all the time
		pause(ctx, 10*time.Millisecond)
	}
	o = m.stop(1)
	o.Calls = int(counted.calls.Load() - before)
	return o, ctx.Err()
}

// poll asks for nothing, over one connection and under a deadline, as often as an idle relay may.
func poll(ctx context.Context, t *task) (o outcome, err error) {
	db, err := databaseAt(t.Database).pool()
	if err != nil {
		return o, err
	}
	defer closing(&err, db.Close)
	conn, err := db.Conn(ctx)
	if err != nil {
		return o, err
	}
	defer closing(&err, conn.Close)
	ask := func() error {
		ctx, cancel := context.WithTimeout(ctx, settleFor)
		defer cancel()
		var one int
		return conn.QueryRowContext(ctx, "SELECT 1").Scan(&one)
	}
	pause(ctx, settleFor)
	m := newMeter(t)
	asked := 0
	for end := time.Now().Add(t.For); asked == 0 || time.Now().Before(end); asked++ {
		if err := ask(); err != nil {
			return o, err
		}
		pause(ctx, time.Second/pollsPerSecond)
	}
	o = m.stop(1)
	o.Calls = asked
	return o, ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// countingDialect counts what its sessions are asked: on every server of ours that is one round trip each.
type countingDialect struct {
	core.Dialect
	calls atomic.Int64
}

// Unwrap lets the relay find what the dialect can do beyond the minimum.
func (d *countingDialect) Unwrap() core.Dialect { return d.Dialect }

func (d *countingDialect) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	if err != nil {
		return nil, err
	}
	return &countingSession{s, d}, nil
}

// countingSession counts the calls that an idle relay makes.
type countingSession struct {
	core.Session
	dialect *countingDialect
}

func (s *countingSession) Unwrap() core.Session { return s.Session }

func (s *countingSession) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	s.dialect.calls.Add(1)
	return s.Session.Fetch(ctx, request)
}

func (s *countingSession) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	s.dialect.calls.Add(1)
	return s.Session.ResolveGaps(ctx, gaps)
}

func (s *countingSession) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	s.dialect.calls.Add(1)
	return s.Session.Promote(ctx, epoch, limit)
}

func (s *countingSession) ReadLease(ctx context.Context) (core.Lease, error) {
	s.dialect.calls.Add(1)
	return s.Session.ReadLease(ctx)
}

func (s *countingSession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	s.dialect.calls.Add(1)
	return s.Session.RenewLease(ctx, holder, epoch, ttl, progress)
}

// measureIdle measures what a relay costs that has nothing to do.
func (b *bench) measureIdle(ctx context.Context) (Section, error) {
	s := Section{Name: Idle, Title: "A relay with nothing to do"}
	for round := range b.config.Rounds {
		for _, database := range b.config.Databases {
			if err := b.idleTrial(ctx, &s, round, database, "", wayPoll); err != nil {
				return s, err
			}
			for _, broker := range b.config.Brokers {
				if err := b.idleTrial(ctx, &s, round, database, broker, wayIdle); err != nil {
					return s, err
				}
			}
		}
	}
	for _, row := range s.Rows {
		if row.Way != wayIdle {
			continue
		}
		where := places(row.Database, row.Broker)
		s.Ratios = append(s.Ratios,
			Ratio{Name: where + ": % of a core", Stat: row.Values["relay % of a core"], AtMost: 0.5},
			Ratio{Name: where + ": round trips/s", Stat: row.Values["round trips/s"], AtMost: 12})
	}
	return s, nil
}

func (b *bench) idleTrial(ctx context.Context, s *Section, round int, database, broker, way string) error {
	b.say("%s, round %d of %d: %s %s", s.Name, round+1, b.config.Rounds, places(database, broker), way)
	o, err := b.withApp(ctx, database, broker, func(t task) (outcome, error) {
		t.Way = way
		return perform(ctx, t)
	})
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w", s.Name, places(database, broker), way, err)
	}
	v := map[string]float64{"round trips/s": float64(o.Calls) / o.Seconds, "relay % of a core": 100 * o.CPU / o.Seconds}
	if o.PeakBytes > 0 {
		v["relay peak MiB"] = float64(o.PeakBytes>>10) / 1024
	}
	s.add(database, broker, way, v, nil)
	return nil
}
