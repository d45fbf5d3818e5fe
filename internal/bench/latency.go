package bench

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// The ways of the latency section. direct is the unsafe dual write: commit, then publish and wait for the answer.
const (
	wayDirect    = "direct"
	wayInProcess = "in process"
	wayAcross    = "across processes"

	// The two processes of the last.
	wayApp   = "application"
	wayRelay = "relay"
)

// warmUp is what is not counted of a latency trial, at its start.
const warmUp = time.Second

// times are moments of events, by the events' numbers, in nanoseconds since 1970; 0 where there was none.
type times []atomic.Int64

func (t times) note(n int, at time.Time) {
	if n >= 0 && n < len(t) {
		t[n].CompareAndSwap(0, at.UnixNano())
	}
}

// noteID is note for the event whose ID is its number.
func (t times) noteID(id string, at time.Time) {
	if n, err := strconv.Atoi(id); err == nil {
		t.note(n, at)
	}
}

// write stores them in a file.
func (t times) write(path string) error {
	content := make([]byte, 0, 8*len(t))
	for i := range t {
		content = binary.LittleEndian.AppendUint64(content, uint64(t[i].Load())) //nolint:gosec // read back as it is written
	}
	return os.WriteFile(path, content, 0o600)
}

func readTimes(path string) ([]int64, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	all := make([]int64, len(content)/8)
	for i := range all {
		all[i] = int64(binary.LittleEndian.Uint64(content[8*i:])) //nolint:gosec // as it was written
	}
	return all, nil
}

const committedFile, confirmedFile = ".committed", ".confirmed"

// eventsOf is how many events a latency trial has.
func (t *task) eventsOf() int { return int(float64(t.Rate) * (warmUp + t.For).Seconds()) }

// relayOf makes a relay that notes when the broker confirmed an event.
func relayOf(t *task, d dialect, broker core.Broker, waker *core.Waker, confirmed times) (*core.Relay, error) {
	return core.NewRelay(d, broker, core.RelayConfig{
		Logger: slog.New(slog.DiscardHandler), Waker: waker,
		Hooks: core.Hooks{Published: func(call core.PublishReport) {
			now := time.Now()
			for i, result := range call.Results {
				if result == nil {
					confirmed.noteID(call.Messages[i].ID, now)
				}
			}
		}},
	})
}

// latency runs the application at an even rate, with a relay in its process, or in another one, or without.
func latency(ctx context.Context, t *task) (o outcome, err error) {
	place, to := databaseAt(t.Database), streamAt(t.Broker, t.Topic)
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
	waker := core.NewWaker()
	outbox := core.NewOutbox(d, core.OutboxConfig{Waker: waker, Logger: slog.New(slog.DiscardHandler)})
	committed, confirmed := make(times, t.eventsOf()), make(times, t.eventsOf())
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()

	send := func(n int) error {
		err := a.transact(ctx, func(tx *sql.Tx, account int) error {
			return outbox.Enqueue(ctx, tx, a.message(strconv.Itoa(n), account))
		})
		committed.note(n, time.Now())
		outbox.Wake()
		return err
	}
	switch t.Way {
	case wayDirect:
		publishers, err := openPublishers(to)
		defer closing(&err, publishers.close)
		if err != nil {
			return o, err
		}
		send = func(n int) error {
			account := 0
			err := a.transact(ctx, func(_ *sql.Tx, of int) error { account = of; return nil })
			committed.note(n, time.Now())
			if err == nil {
				m := a.message(strconv.Itoa(n), account)
				err = publishers[laneOf(m.Key)].publish(ctx, []core.Message{m})
			}
			confirmed.note(n, time.Now())
			return err
		}
	case wayInProcess:
		broker, closeBroker, err := to.broker()
		if err != nil {
			return o, err
		}
		defer closing(&err, closeBroker)
		relay, err := relayOf(t, d, broker, waker, confirmed)
		if err != nil {
			return o, err
		}
		running.Go(func() { _ = relay.Run(background) }) // what it did not confirm is missed below
	case wayApp:
		running.Go(func() { outbox.Run(background) })
	}
	m := newMeter(t)
	err = atRate(ctx, t.Rate, t.eventsOf(), send)
	o = m.stop(t.eventsOf())
	if err == nil && t.Way == wayInProcess {
		settling, cancel := context.WithTimeout(ctx, settleWithin)
		defer cancel()
		err = awaitAll(settling, confirmed)
	}
	return o, errors.Join(err, committed.write(t.Answers+committedFile), writeUnless(t.Way == wayApp, confirmed, t.Answers+confirmedFile))
}

func writeUnless(no bool, t times, path string) error {
	if no {
		return nil
	}
	return t.write(path)
}

// settleWithin is how long the last events of a trial have to arrive.
const settleWithin = 20 * time.Second

// awaitAll returns when every event has its time.
func awaitAll(ctx context.Context, t times) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		missing := 0
		for i := range t {
			if t[i].Load() == 0 {
				missing++
			}
		}
		if missing == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d events were not confirmed: %w", missing, len(t), ctx.Err())
		case <-tick.C:
		}
	}
}

// atRate calls send for each number below n, at an even rate however long a call takes, as far as there are clients.
func atRate(ctx context.Context, rate, n int, send func(n int) error) error {
	began := time.Now()
	errs := make([]error, appClients)
	var running sync.WaitGroup
	for client := range appClients {
		running.Go(func() {
			for i := client; i < n && errs[client] == nil; i += appClients {
				timer := time.NewTimer(time.Until(began.Add(time.Duration(float64(i) / float64(rate) * float64(time.Second)))))
				select {
				case <-timer.C:
				case <-ctx.Done():
					errs[client] = ctx.Err()
					return
				}
				errs[client] = send(i)
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// relayAlone is the relay of another process: it runs until every event is confirmed, or its parent has waited long enough.
func relayAlone(ctx context.Context, t *task) (o outcome, err error) {
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
	confirmed := make(times, t.eventsOf())
	relay, err := relayOf(t, d, broker, nil, confirmed)
	if err != nil {
		return o, err
	}
	running, stop := context.WithCancel(ctx)
	var end sync.WaitGroup
	defer end.Wait()
	defer stop() // before the wait
	m := newMeter(t)
	end.Go(func() { defer stop(); _ = relay.Run(running) })
	_ = awaitAll(running, confirmed) // the parent sees what is missing, and ends standard input where it has waited long enough
	return m.stop(t.eventsOf()), confirmed.write(t.Answers + confirmedFile)
}

// measureLatency measures from commit to the broker's answer.
func (b *bench) measureLatency(ctx context.Context) (s Section, err error) {
	s = Section{Name: Latency, Title: "From commit to the broker's answer, at an even rate"}
	directory, err := os.MkdirTemp("", "lockstep_bench_")
	if err != nil {
		return s, err
	}
	defer closing(&err, func() error { return os.RemoveAll(directory) })
	ways := []string{wayDirect, wayInProcess, wayAcross}
	for round := range b.config.Rounds {
		for _, broker := range b.config.Brokers {
			for _, database := range b.config.Databases {
				for _, rate := range b.config.Rates {
					for i := range ways {
						way := ways[(i+round)%len(ways)]
						label := fmt.Sprintf("%s, %d/s", way, rate)
						b.say("%s, round %d of %d: %s %s", s.Name, round+1, b.config.Rounds, places(database, broker), label)
						v, err := b.latencyTrial(ctx, database, broker, way, rate, filepath.Join(directory, "times"))
						if err != nil {
							return s, fmt.Errorf("%s: %s %s: %w", s.Name, places(database, broker), label, err)
						}
						s.add(database, broker, label, v, nil)
					}
				}
			}
		}
	}
	for _, broker := range b.config.Brokers {
		for _, database := range b.config.Databases {
			for _, rate := range b.config.Rates {
				s.latencyRatios(database, broker, rate)
			}
		}
	}
	return s, nil
}

func (b *bench) latencyTrial(ctx context.Context, database, broker, way string, rate int, files string) (map[string]float64, error) {
	o, err := b.withApp(ctx, database, broker, func(t task) (o outcome, err error) {
		t.Way, t.Rate, t.Answers = way, rate, files
		if way != wayAcross {
			return perform(ctx, t)
		}
		t.Way = wayRelay
		relay, err := start(ctx, t)
		if err != nil {
			return o, err
		}
		t.Way = wayApp
		if _, err = perform(ctx, t); err != nil {
			relay.stop()
		}
		late := time.AfterFunc(settleWithin, relay.stop) // what comes later is missing below
		o, failed := relay.wait()
		if !late.Stop() && failed == nil {
			failed = fmt.Errorf("the relay has not ended %v after the last event", settleWithin)
		}
		return o, errors.Join(err, failed)
	})
	if err != nil {
		return nil, err
	}
	v := o.values()
	delete(v, "events/s")
	return v, latencies(files, int(float64(rate)*warmUp.Seconds()), v)
}

// latencies puts what the files of a trial say into v, from event number first on.
func latencies(files string, first int, v map[string]float64) error {
	committed, err := readTimes(files + committedFile)
	if err != nil {
		return err
	}
	confirmed, err := readTimes(files + confirmedFile)
	if err != nil {
		return err
	}
	var took []float64
	for i := first; i < len(committed); i++ {
		if i >= len(confirmed) || confirmed[i] == 0 {
			return fmt.Errorf("event %d of %d was not confirmed in time", i, len(committed))
		}
		took = append(took, max(0, float64(confirmed[i]-committed[i])/1e6))
	}
	if len(took) == 0 {
		return errors.New("there are no events to measure")
	}
	slices.Sort(took)
	quantile := func(q float64) float64 { return took[min(len(took)-1, int(q*float64(len(took))))] }
	v["p50 ms"], v["p99 ms"], v["max ms"] = quantile(0.5), quantile(0.99), took[len(took)-1]
	return nil
}

// latencyRatios compares with the direct way. What was promised was promised for 1000 events per second, from PostgreSQL to
// Kafka, and for sparse ones across processes.
func (s *Section) latencyRatios(database, broker string, rate int) {
	for _, promise := range []struct {
		way      string
		p50, p99 float64
	}{{wayInProcess, 1.5, 4}, {wayAcross, 2.5, 6}} {
		row := s.find(database, broker, fmt.Sprintf("%s, %d/s", promise.way, rate))
		direct := s.find(database, broker, fmt.Sprintf("%s, %d/s", wayDirect, rate))
		if row == nil || direct == nil {
			continue
		}
		where := fmt.Sprintf("%s, %s, %d/s: ", places(database, broker), promise.way, rate)
		half := Ratio{Name: where + "p50 ms", Stat: row.Values["p50 ms"]}
		most := Ratio{Name: where + "p99 ms, more than direct", Stat: difference(row.Values["p99 ms"], direct.Values["p99 ms"])}
		if database == Postgres && broker == Kafka && rate == 1000 {
			half.AtMost, most.AtMost = promise.p50, promise.p99
		}
		s.Ratios = append(s.Ratios, half, most)
		if limit := map[string]float64{SQLite: 30, MySQL: 120, MariaDB: 120}[database]; promise.way == wayAcross && rate <= 10 && limit > 0 {
			s.Ratios = append(s.Ratios, Ratio{Name: where + "p99 ms, sparse", Stat: row.Values["p99 ms"], AtMost: limit})
		}
	}
}

// difference subtracts two stats round by round.
func difference(of, from Stat) Stat {
	var rounds []float64
	for i := range min(len(of.Rounds), len(from.Rounds)) {
		rounds = append(rounds, of.Rounds[i]-from.Rounds[i])
	}
	return statOf(rounds)
}
