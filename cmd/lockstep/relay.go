package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
)

const relayHelp = `Carry events from outboxes to brokers, until SIGTERM or an interrupt.

It then drains: publish calls end, what the broker has stored is acknowledged, the
lease is released, and the exit code is 0. A database or broker that is away, at
the start or later, is waited for. Several relays may run on one outbox: one works,
and the others stand by.

/healthz   200 while the process lives
/readyz    200 while events are delivered, otherwise 503 and why not
/metrics   Prometheus

Logs go to standard error. Traces are sent where OTEL_EXPORTER_OTLP_ENDPOINT, or
OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, says: a span for each event that was enqueued
in a sampled trace (header traceparent), from its publish call.

Exit code: 0 when it was told to stop and drained, 1 when it failed or could not
drain in its time, 2 when the command line or the configuration is wrong.`

func newRelay() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "relay",
		Short:   "Carry events from outboxes to brokers",
		Long:    relayHelp,
		Example: "  lockstep relay --config lockstep.yaml\n  lockstep relay --database sqlite:shop.db --broker stdout:",
		Args:    noArgs,
	}
	s := newSettings(cmd, "database", "broker", "prefix", "schema", "listen", "log.level", "log.format")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runRelay(cmd, s) }
	return cmd
}

func runRelay(cmd *cobra.Command, s *settings) (err error) {
	c, err := s.load(cmd, false)
	if err != nil {
		return err
	}
	log := slog.New(c.Log.Handler(cmd.ErrOrStderr()))
	opened, err := all.Registry().Open(c, log)
	if err != nil {
		return &usageError{err}
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	spans, err := startTracing(cmd.Context(), log)
	if err != nil {
		return err
	}
	defer spans.stop()
	p := newProgram(c, opened, log, spans)
	if c.Listen == "off" {
		return p.run(cmd.Context(), nil)
	}
	listener, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("%w: set listen to a free address, or to off", err)
	}
	return p.run(cmd.Context(), listener)
}

// program is the relays of a process, and what is told of them.
type program struct {
	log     *slog.Logger
	metrics *metrics
	sites   []*site
}

// site is one outbox.
type site struct {
	name    string
	relay   *core.Relay
	monitor *monitor
}

func newProgram(c config.Config, opened *config.Opened, log *slog.Logger, spans *tracing) *program {
	p := &program{log: log, metrics: newMetrics()}
	for i := range opened.Outboxes {
		o := &opened.Outboxes[i]
		log := log.With("outbox", o.Name)
		o.Relay.Logger = log
		watch := newMonitor(o, c.MaxPendingAge, log)
		o.Relay.Hooks = p.metrics.hooks(o.Name, spans, watch)
		relay, err := core.NewRelay(o.Dialect, o.Broker, o.Relay)
		if err != nil {
			panic(err) // config.Load has checked all of it
		}
		p.sites = append(p.sites, &site{name: o.Name, relay: relay, monitor: watch})
	}
	p.metrics.watch(p.sites)
	return p
}

// run runs everything until ctx is done, or a relay cannot go on. The server of health and metrics is the last to stop.
func (p *program) run(ctx context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	served := p.serve(listener)
	defer served.stop()
	watching, unwatch := context.WithCancel(context.WithoutCancel(ctx))
	var relays, monitors sync.WaitGroup
	failures := make([]error, len(p.sites))
	for i, s := range p.sites {
		monitors.Go(func() { s.monitor.run(watching) })
		relays.Go(func() {
			if err := s.relay.Run(ctx); err != nil {
				failures[i] = &toldError{fmt.Errorf("outbox %s: %w", s.name, err)}
				stop() // the others drain, and whoever supervises the process starts it again
			}
		})
	}
	p.log.Info("relay started", "outboxes", len(p.sites), "version", version())
	<-ctx.Done()
	p.log.Info("draining")
	relays.Wait()
	unwatch()
	monitors.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	p.log.Info("drained")
	return nil
}
