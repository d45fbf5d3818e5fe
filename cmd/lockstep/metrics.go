package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/lockstep-go/lockstep/core"
)

// metrics are what Prometheus reads. None has a label for topics or keys: nobody knows how many there are.
type metrics struct {
	registry *prometheus.Registry

	results, acknowledged, failed, buried, abandoned, promoted, fetched, lost, databaseFailed, rewound, takeovers *prometheus.CounterVec
	batch, publish, delivery, fetch                                                                               *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "lockstep_" + name, Help: help}, append([]string{"outbox"}, labels...))
		m.registry.MustRegister(c)
		return c
	}
	m.results = counter("publish_results_total", "Results of publish calls, one for each event: stored, or how it failed.", "class")
	m.acknowledged = counter("acknowledged_total", "Events that left the outbox because they were delivered.")
	m.failed = counter("failed_attempts_total", "Attempts that failed and were counted.")
	m.buried = counter("buried_total", "Events that became dead letters.")
	m.abandoned = counter("abandoned_calls_total", "Publish calls that did not return in their time.")
	m.promoted = counter("promoted_total", "Delayed events that came due.")
	m.fetched = counter("fetched_total", "Events that were read from the outbox, each time that they were.")
	m.lost = counter("sessions_lost_total", "Reading sessions that ended by an error of the database.")
	m.databaseFailed = counter("database_failures_total",
		"Calls of the database that failed, by what they were to do: settle, renew the lease, and so on. Reads are sessions_lost_total.", "step")
	m.rewound = counter("rewinds_total", "Times that the reader went back, behind what was held.")
	m.takeovers = counter("takeovers_total", "Times that this process took the lease.")

	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "lockstep_" + name, Help: help, Buckets: buckets}, []string{"outbox"})
		m.registry.MustRegister(h)
		return h
	}
	m.batch = histogram("batch_size", "Events in a publish call.", []float64{1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500})
	m.publish = histogram("publish_seconds", "Time of a publish call.", prometheus.ExponentialBuckets(0.0005, 2.5, 13))
	m.delivery = histogram("delivery_seconds", "Time from an event's insert to its storage by the broker, by the clocks of database and relay.",
		prometheus.ExponentialBuckets(0.001, 3, 14))
	m.fetch = histogram("fetch_seconds", "Time of a read from the outbox.", prometheus.ExponentialBuckets(0.0002, 3, 11))
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "lockstep_build_info", Help: "1, with the program's version."}, []string{"version"})
	info.WithLabelValues(version()).Set(1)
	m.registry.MustRegister(info)
	return m
}

// hooks returns what counts the work of one outbox's relay, and tells watch of it.
func (m *metrics) hooks(outbox string, spans *tracing, watch *monitor) core.Hooks {
	for _, c := range []*prometheus.CounterVec{m.acknowledged, m.failed, m.buried, m.abandoned, m.promoted, m.fetched, m.lost, m.rewound, m.takeovers} {
		c.WithLabelValues(outbox) // 0 is there before the first one
	}
	m.results.WithLabelValues(outbox, core.ClassOf(nil))
	m.databaseFailed.WithLabelValues(outbox, "settle")
	return core.Hooks{
		Leading: func(leading bool, _ int64) {
			if leading {
				m.takeovers.WithLabelValues(outbox).Inc()
			}
		},
		Lost:           func(error) { m.lost.WithLabelValues(outbox).Inc() },
		DatabaseFailed: func(step string, _ error) { m.databaseFailed.WithLabelValues(outbox, step).Inc() },
		Fetched: func(records int, took time.Duration) {
			m.fetched.WithLabelValues(outbox).Add(float64(records))
			m.fetch.WithLabelValues(outbox).Observe(took.Seconds())
		},
		Rewound:  func(_, _ int64) { m.rewound.WithLabelValues(outbox).Inc() },
		Promoted: func(events int) { m.promoted.WithLabelValues(outbox).Add(float64(events)) },
		Published: func(call core.PublishReport) {
			m.published(outbox, call)
			spans.published(call)
			watch.published(call)
		},
		Abandoned:    func([]core.Message) { m.abandoned.WithLabelValues(outbox).Inc() },
		Acknowledged: func(refs []core.Ref) { m.acknowledged.WithLabelValues(outbox).Add(float64(len(refs))) },
		Failed:       func(core.Failure) { m.failed.WithLabelValues(outbox).Inc() },
		Buried:       func(core.Burial) { m.buried.WithLabelValues(outbox).Inc() },
	}
}

func (m *metrics) published(outbox string, call core.PublishReport) {
	m.batch.WithLabelValues(outbox).Observe(float64(len(call.Messages)))
	m.publish.WithLabelValues(outbox).Observe(call.Took.Seconds())
	delivery, now := m.delivery.WithLabelValues(outbox), time.Now()
	classes := map[string]int{}
	for i, result := range call.Results {
		classes[core.ClassOf(result)]++
		if at := call.Messages[i].EnqueuedAt; result == nil && !at.IsZero() {
			delivery.Observe(max(0, now.Sub(at).Seconds()))
		}
	}
	for class, n := range classes {
		m.results.WithLabelValues(outbox, class).Add(float64(n))
	}
}

// watch has the state of these outboxes read whenever the metrics are.
func (m *metrics) watch(sites []*site) { m.registry.MustRegister(&states{sites}) }

// states are the gauges: what the relays hold now, and what the monitors saw last.
type states struct{ sites []*site }

// gauge is one of them. It is left out where ok is false.
type gauge struct {
	desc  *prometheus.Desc
	value func(s *site, seen sight, state core.RelayState) (value float64, ok bool)
}

func described(name, help string, value func(s *site, seen sight, state core.RelayState) (float64, bool)) gauge {
	return gauge{prometheus.NewDesc("lockstep_"+name, help, []string{"outbox"}, nil), value}
}

// fromState is of this process's relay.
func fromState(name, help string, value func(core.RelayState) float64) gauge {
	return described(name, help, func(_ *site, _ sight, state core.RelayState) (float64, bool) { return value(state), true })
}

// fromStats is of the database, whichever relay works, and absent while the database is away: an old number looks like a new
// one.
func fromStats(name, help string, value func(sight) float64) gauge {
	return described(name, help, func(_ *site, seen sight, _ core.RelayState) (float64, bool) {
		if !seen.seen || seen.database != nil {
			return 0, false
		}
		return value(seen), true
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var gauges = []gauge{
	described("ready", "1 while events are being delivered, as /readyz says.",
		func(s *site, _ sight, _ core.RelayState) (float64, bool) {
			return truth(len(s.monitor.problems()) == 0), true
		}),
	described("database_up", "1 while the outbox can be read.",
		func(_ *site, seen sight, _ core.RelayState) (float64, bool) {
			return truth(seen.database == nil), seen.seen
		}),
	fromStats("lease_held", "1 while some relay holds the lease.", func(s sight) float64 { return truth(!s.lease.Expired) }),
	fromStats("pending_events", "Events that are not delivered; perhaps estimated beyond 10 000.", func(s sight) float64 { return float64(s.stats.Pending.N) }),
	fromStats("oldest_pending_seconds", "Age of the oldest event that is not delivered.", func(s sight) float64 { return s.stats.OldestAge.Seconds() }),
	described("lag_seconds", "How far delivery is behind, what is held back left out: 0 where nothing waits. Of the process that holds the lease.",
		func(s *site, seen sight, state core.RelayState) (float64, bool) {
			return s.monitor.lag(time.Now()).Seconds(), state.Leading && seen.seen && seen.database == nil
		}),
	fromStats("delayed_events", "Events that are not due yet.", func(s sight) float64 { return float64(s.stats.Delayed.N) }),
	fromStats("dead_letters", "Dead letters that wait for an operator.", func(s sight) float64 { return float64(s.stats.Dead.N) }),
	fromStats("blocked_keys", "Keys that wait for an operator, because of a dead letter.", func(s sight) float64 { return float64(s.stats.BlockedKeys) }),
	fromState("leading", "1 while this process holds the lease.", func(s core.RelayState) float64 { return truth(s.Leading) }),
	fromState("lease_epoch", "Count of the lease's owners, while this process is the owner.", func(s core.RelayState) float64 { return float64(s.Epoch) }),
	fromState("in_flight_events", "Events in memory.", func(s core.RelayState) float64 { return float64(s.InFlight) }),
	fromState("in_flight_bytes", "Bytes of events in memory.", func(s core.RelayState) float64 { return float64(s.InFlightBytes) }),
	fromState("publishing_calls", "Publish calls under way.", func(s core.RelayState) float64 { return float64(s.Publishing) }),
	fromState("held_keys", "Keys that are held back by failures, and go on by themselves.", func(s core.RelayState) float64 { return float64(s.HeldKeys) }),
	fromState("held_topics", "Topics that are held back by failures, and go on by themselves.", func(s core.RelayState) float64 { return float64(s.HeldTopics) }),
	fromState("gaps", "Ranges of positions that open transactions may still fill.", func(s core.RelayState) float64 { return float64(s.Gaps) }),
	fromState("careful", "1 while one event at a time is published, because earlier relays were killed.", func(s core.RelayState) float64 { return truth(s.Careful) }),
}

var brokerUp = prometheus.NewDesc("lockstep_broker_up", "1 while the broker can be reached.", []string{"outbox", "broker"}, nil)

// Describe implements prometheus.Collector.
func (*states) Describe(descs chan<- *prometheus.Desc) {
	for _, g := range gauges {
		descs <- g.desc
	}
	descs <- brokerUp
}

// Collect implements prometheus.Collector.
func (c *states) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.sites {
		seen, state := s.monitor.seen(), s.relay.State()
		for _, g := range gauges {
			if value, ok := g.value(s, seen, state); ok {
				out <- prometheus.MustNewConstMetric(g.desc, prometheus.GaugeValue, value, s.name)
			}
		}
		for name, err := range seen.brokers {
			out <- prometheus.MustNewConstMetric(brokerUp, prometheus.GaugeValue, truth(err == nil), s.name, name)
		}
	}
}
