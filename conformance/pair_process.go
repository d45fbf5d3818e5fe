package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var errKilled = errors.New("the process was killed")

// process is a relay that can be killed: everything that it has under way is cut off, and nothing it begins afterwards
// reaches the database or the broker. What had reached them may still happen there.
type process struct {
	dead context.Context // ends by kill
	kill context.CancelFunc
	stop context.CancelFunc // asks for a graceful end
	done chan struct{}      // closed when Run has returned err
	err  error

	leads     atomic.Bool
	publishes atomic.Int64 // calls that stored something
	troubles  atomic.Int64 // calls that did not store everything
	failed    atomic.Int64 // counted attempts
	buried    atomic.Int64
}

// startRelay starts a relay, every second one elsewhere. publish, where it is not nil, stands between the relay and the broker.
func (s *scenario) startRelay(publish publishFunc) *process {
	p := &process{done: make(chan struct{})}
	p.dead, p.kill = context.WithCancel(context.Background())
	stopping, stop := context.WithCancel(context.Background())
	p.stop = stop
	broker := s.broker.Broker
	if len(s.processes)%2 == 1 && s.broker.Elsewhere != nil {
		broker = s.broker.Elsewhere
	}
	if publish != nil {
		broker = wrap(broker, publish)
	}
	broker = wrap(broker, func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		return p.do(ctx, func(ctx context.Context) error { return inner.Publish(ctx, msgs) })
	})
	config := s.config
	config.Hooks = core.Hooks{
		Leading:   func(leads bool, _ int64) { p.leads.Store(leads) },
		Failed:    func(core.Failure) { p.failed.Add(1) },
		Buried:    func(core.Burial) { p.buried.Add(1) },
		Published: p.published,
	}
	dialect := s.Dialect
	if len(s.processes)%2 == 1 {
		dialect = s.elsewhere()
	}
	relay, err := core.NewRelay(processDialect{dialect, p}, broker, config)
	if err != nil {
		panic(err) // the suite's own configuration
	}
	s.processes = append(s.processes, p)
	go func() {
		defer close(p.done)
		p.err = relay.Run(stopping)
	}()
	return p
}

// published sees nothing of a killed process: those calls end because it is dead.
func (p *process) published(call core.PublishReport) {
	if p.dead.Err() != nil {
		return
	}
	stored, failed := false, false
	for _, result := range call.Results {
		stored, failed = stored || result == nil, failed || result != nil
	}
	if stored {
		p.publishes.Add(1)
	}
	if failed {
		p.troubles.Add(1)
	}
}

// killed kills the process and waits until nothing of it is left.
func (p *process) killed(ctx context.Context) error {
	p.kill()
	p.stop()
	return p.ended(ctx)
}

// stopped stops the process gracefully.
func (p *process) stopped(ctx context.Context) error {
	p.stop()
	if err := p.ended(ctx); err != nil {
		return err
	}
	if p.err != nil && p.dead.Err() == nil {
		return fmt.Errorf("a relay that was asked to stop returned %w", p.err)
	}
	return nil
}

func (p *process) ended(ctx context.Context) error {
	limit := time.NewTimer(pairPatience)
	defer limit.Stop()
	select {
	case <-p.done:
		return nil
	case <-limit.C:
		return fmt.Errorf("a relay that was ended has not returned within %v", pairPatience)
	case <-ctx.Done():
		return fmt.Errorf("wait for a relay's end: %w", ctx.Err())
	}
}

// do runs one call of the process.
func (p *process) do(ctx context.Context, f func(context.Context) error) error {
	if p.dead.Err() != nil {
		return errKilled
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.dead, cancel)()
	return f(ctx)
}

// relayConfig is quick: what a user's relay does in seconds happens in a check.
func relayConfig() core.RelayConfig {
	return core.RelayConfig{
		PollInterval:   20 * time.Millisecond,
		PublishTimeout: 2 * time.Second,
		DrainTimeout:   inTheEnd,
		Failures:       core.FailurePolicy{MaxAttempts: 5, FirstDelay: 10 * time.Millisecond, MaxDelay: 50 * time.Millisecond},
		Logger:         slog.New(slog.DiscardHandler),
	}
}

type processDialect struct {
	core.Dialect
	p *process
}

func (d processDialect) Unwrap() core.Dialect { return d.Dialect }

func (d processDialect) Open(ctx context.Context) (s core.Session, err error) {
	err = d.p.do(ctx, func(ctx context.Context) error {
		inner, err := d.Dialect.Open(ctx)
		s = processSession{inner, d.p}
		return err
	})
	return s, err
}

// processSession passes on what a relay uses.
type processSession struct {
	core.Session
	p *process
}

func (s processSession) Fetch(ctx context.Context, request core.FetchRequest) (result core.FetchResult, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		result, err = s.Session.Fetch(ctx, request)
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

func (s processSession) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) { return s.Session.TakeLease(ctx, seen, holder, ttl) })
}

func (s processSession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) {
		return s.Session.RenewLease(ctx, holder, epoch, ttl, progress)
	})
}

func (s processSession) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	return s.leased(ctx, func(ctx context.Context) (bool, error) { return s.Session.MarkSuspect(ctx, holder, epoch, suspect) })
}

func (s processSession) leased(ctx context.Context, f func(context.Context) (bool, error)) (ours bool, err error) {
	err = s.p.do(ctx, func(ctx context.Context) (err error) {
		ours, err = f(ctx)
		return err
	})
	return ours, err
}

func (s processSession) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	return s.p.do(ctx, func(ctx context.Context) error { return s.Session.ReleaseLease(ctx, holder, epoch) })
}
