package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/pprof"

	"github.com/lockstep-go/lockstep/core"
)

// lockstep runs a relay with its defaults until it has acknowledged the task's events.
func lockstep(ctx context.Context, t *task) (o outcome, err error) {
	place, to := databaseAt(t.Database), streamAt(t.Broker, t.Topic)
	d, err := place.dialect(t.Archive)
	if err != nil {
		return o, err
	}
	defer closing(&err, d.Close)
	broker, closeBroker, err := to.broker()
	if err != nil {
		return o, err
	}
	defer closing(&err, closeBroker)
	stopProfiles, err := startProfiles(t.Profile)
	if err != nil {
		return o, err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	left := t.Events
	m := newMeter(t)
	relay, err := core.NewRelay(d, broker, core.RelayConfig{
		Logger: slog.New(slog.DiscardHandler),
		Hooks: core.Hooks{Acknowledged: func(refs []core.Ref) {
			if left -= len(refs); left <= 0 && o.Events == 0 {
				o = m.stop(t.Events - left)
				stop()
			}
		}},
	})
	if err != nil {
		return o, err
	}
	err = errors.Join(relay.Run(ctx), stopProfiles())
	if err == nil && o.Events == 0 {
		err = fmt.Errorf("the relay was stopped before it had carried %d of %d events", left, t.Events)
	}
	return o, err
}

// startProfiles writes a CPU and an allocation profile when stop is called; nothing where there is no name.
func startProfiles(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	cpu, err := os.Create(name + ".cpu.pprof")
	if err != nil {
		return nil, err
	}
	runtime.MemProfileRate = 64 << 10
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		allocations, err := os.Create(name + ".allocs.pprof")
		if err != nil {
			return errors.Join(err, cpu.Close())
		}
		return errors.Join(cpu.Close(), pprof.Lookup("allocs").WriteTo(allocations, 0), allocations.Close())
	}, nil
}
