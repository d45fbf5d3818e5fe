package core_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var errKilled = errors.New("the process was killed")

// process is one relay process of a simulation. Killing it cuts everything that it has under way from the outside: what
// had reached the database or the broker may still happen there.
type process struct {
	w    *world
	ctx  context.Context // ends by kill -9
	kill context.CancelFunc
	stop context.CancelFunc // SIGTERM
	done chan struct{}
	err  error // of Run, once done is closed
}

// start runs a relay as a process of its own.
func (w *world) start() {
	p := &process{w: w, done: make(chan struct{})}
	p.ctx, p.kill = context.WithCancel(w.ctx)
	stopping, stop := context.WithCancel(w.ctx)
	p.stop = stop
	broker := &processBroker{p, w.recorder.Client(w.plan.client)}
	var b core.Broker = broker
	if w.plan.client.KeyOrdered {
		b = orderedProcessBroker{broker}
	}
	if w.plan.client.Terms {
		b = &termProcessBroker{broker, w}
	}
	var d core.Dialect = processDialect{w.memory, p}
	if w.plan.wakeUps {
		d = listeningProcessDialect{processDialect{w.memory, p}}
	}
	relay, err := core.NewRelay(d, b, w.config())
	if err != nil {
		panic(err)
	}
	w.mu.Lock()
	if w.over {
		w.mu.Unlock()
		return
	}
	n := uint64(len(w.processes))
	relay.WithRandom(w.random(1000 + n))
	relay.WithLimits(w.plan.small)
	if w.plan.clocks > 0 {
		relay.WithWallClock(turning(w.random(2000+n), w.begun))
	}
	w.processes = append(w.processes, p)
	w.running.Add(1)
	w.mu.Unlock()
	if !w.plan.leased {
		relay.WithoutLease()
	}
	go func() {
		defer w.running.Done()
		defer close(p.done)
		p.err = w.carry(stopping, relay)
		if errors.Is(p.err, core.ErrAbandoned) {
			w.start() // as whoever supervises it would
		}
	}()
}

// carry runs relay, in one of two ways, until ctx is done.
func (w *world) carry(ctx context.Context, relay *core.Relay) error {
	if !w.plan.once {
		return relay.Run(ctx)
	}
	for {
		_, err := relay.RunOnce(ctx)
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			return nil // it never had the lease
		}
		var drain *core.DrainError
		if ctx.Err() != nil || errors.Is(err, core.ErrAbandoned) || errors.As(err, &drain) {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond): // the bubble's clock
		}
	}
}

// jump is how far a clock is off.
func jump(r *rand.Rand) time.Duration {
	const most = 15 * time.Second
	return time.Duration(r.Int64N(int64(2*most))) - most
}

// turning returns a wall clock that is set anew now and then, by seconds or by an hour.
func turning(r *rand.Rand, begun time.Time) func(time.Time) time.Time {
	type setting struct {
		from time.Time
		off  time.Duration
	}
	var settings []setting
	for from := begun; len(settings) < 4; from = from.Add(latency(r, 2*simActive/3)) {
		off := jump(r)
		if r.IntN(4) == 0 {
			off = time.Duration(2*r.IntN(2)-1) * time.Hour
		}
		settings = append(settings, setting{from, off})
	}
	return func(at time.Time) time.Time {
		off := time.Duration(0)
		for _, s := range settings {
			if !at.Before(s.from) {
				off = s.off
			}
		}
		return at.Add(off).Round(0)
	}
}

// bound returns ctx, which ends when the process is killed as well.
func (p *process) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// latest returns the process that was started n before the latest.
func (w *world) latest(n int) *process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.processes[len(w.processes)-1-n]
}

// die ends the process as a message does that it cannot survive, and has another one started.
func (p *process) die(id string) {
	w := p.w
	w.note("%s kills", id)
	p.kill()
	p.stop()
	w.mu.Lock()
	r := w.draw("restart after " + id)
	w.mu.Unlock()
	w.running.Go(func() {
		time.Sleep(latency(r, 50*time.Millisecond)) // the bubble's clock
		w.start()
	})
}

func (p *process) dead() bool { return p.ctx.Err() != nil }

// do runs one call of the process.
func (p *process) do(ctx context.Context, f func(context.Context) error) error {
	if p.dead() {
		return errKilled
	}
	ctx, cancel := p.bound(ctx)
	defer cancel()
	return f(ctx)
}

type processDialect struct {
	core.Dialect
	p *process
}

func (d processDialect) Open(ctx context.Context) (s core.Session, err error) {
	err = d.p.do(ctx, func(ctx context.Context) error {
		inner, err := d.Dialect.Open(ctx)
		s = processSession{inner, d.p}
		return err
	})
	return s, err
}

// listeningProcessDialect hears of commits as well.
type listeningProcessDialect struct{ processDialect }

func (d listeningProcessDialect) Listen(ctx context.Context, wake func()) error {
	return d.p.do(ctx, func(ctx context.Context) error { return d.p.w.memory.Listen(ctx, wake) })
}

// processSession passes on what a relay uses.
type processSession struct {
	core.Session
	p *process
}

func (s processSession) Fetch(ctx context.Context, request core.FetchRequest) (result core.FetchResult, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		result, err = s.Session.Fetch(ctx, request)
		if !s.p.dead() { // what a killed process still notices at that instant is nobody's business
			s.p.w.fetched(request, result, err)
		}
		return err
	})
	return result, err
}

func (s processSession) ResolveGaps(ctx context.Context, gaps []core.Gap) error {
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.ResolveGaps(ctx, gaps) })
}

func (s processSession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.Acknowledge(ctx, refs) })
}

func (s processSession) Fail(ctx context.Context, failures []core.Failure) error {
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.Fail(ctx, failures) })
}

func (s processSession) Bury(ctx context.Context, burials []core.Burial) error {
	s.p.w.burying(burials)
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.Bury(ctx, burials) })
}

func (s processSession) Promote(ctx context.Context, epoch int64, limit int) (p core.Promotion, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		p, err = s.Session.Promote(ctx, epoch, limit)
		return err
	})
	return p, err
}

func (s processSession) ReadLease(ctx context.Context) (lease core.Lease, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		lease, err = s.Session.ReadLease(ctx)
		return err
	})
	return lease, err
}

func (s processSession) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (taken bool, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		taken, err = s.Session.TakeLease(ctx, seen, holder, ttl)
		return err
	})
	return taken, err
}

func (s processSession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (ours bool, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		ours, err = s.Session.RenewLease(ctx, holder, epoch, ttl, progress)
		return err
	})
	return ours, err
}

func (s processSession) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.ReleaseLease(ctx, holder, epoch) })
}

func (s processSession) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (ours bool, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		if suspect != (core.Ref{}) {
			s.p.w.marked(suspect)
		}
		ours, err = s.Session.MarkSuspect(ctx, holder, epoch, suspect)
		return err
	})
	return ours, err
}

// processBroker is the process's connection to the broker.
type processBroker struct {
	p     *process
	inner core.Broker
}

func (b *processBroker) Publish(ctx context.Context, msgs []core.Message) error {
	return b.p.do(ctx, func(ctx context.Context) error {
		for _, m := range msgs {
			if b.p.w.kills(m.ID) {
				b.p.die(m.ID)
				return errKilled
			}
		}
		err := b.inner.Publish(ctx, msgs)
		if ctx.Err() != nil && b.p.w.plan.silences > 0 {
			b.p.w.linger(msgs)
		}
		return err
	})
}

// linger lets calls that are cut at one instant return at instants of their own.
func (w *world) linger(msgs []core.Message) {
	w.mu.Lock()
	r := w.draw("linger " + msgs[0].ID)
	w.mu.Unlock()
	time.Sleep(latency(r, 20*time.Millisecond)) // the bubble's clock
}

// Ping asks the broker over a connection of its own.
func (b *processBroker) Ping(ctx context.Context) error { return b.p.do(ctx, b.p.w.ping) }

type orderedProcessBroker struct{ *processBroker }

func (orderedProcessBroker) KeyOrdered() {}

// termProcessBroker tells the simulation which term a process publishes in.
type termProcessBroker struct {
	*processBroker
	w *world
}

func (b *termProcessBroker) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	var inner core.Broker
	err := b.p.do(ctx, func(ctx context.Context) (err error) {
		inner, err = b.inner.(core.TermBroker).ForTerm(ctx, term)
		return err
	})
	if err != nil {
		return nil, err
	}
	broker := &processBroker{b.p, inner}
	if b.w.plan.client.KeyOrdered {
		return orderedProcessBroker{broker}, nil
	}
	return broker, nil
}

// stopAll ends every process, by SIGTERM or, where it was killed already, for good.
func (w *world) stopAll() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	for _, p := range w.processes {
		p.stop()
	}
	w.running.Wait()
}

func (w *world) kills(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.killers[id]
}

func (w *world) marked(suspect core.Ref) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("marked %d=%s", suspect.Position, suspect.ID)
	w.marks++
}

// group is what waits for goroutines in a bubble.
type group = sync.WaitGroup
