package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

const (
	// watchEvery is how often a monitor looks: often enough to be read every 15 s, and cheap however full the outbox is. At first it looks
	// sooner, firstWatch after the beginning: the lease is about to be taken.
	watchEvery = 5 * time.Second
	firstWatch = watchEvery / 32
	// watchWithin bounds one look at one thing.
	watchWithin = 5 * time.Second
)

// checker is implemented by brokers that can be asked, without sending anything, whether they take messages for topics.
type checker interface {
	Check(ctx context.Context, topics ...string) error
}

// monitor looks at an outbox from outside, whichever relay works on it.
type monitor struct {
	dialect config.Dialect
	brokers map[string]core.Broker
	maxAge  time.Duration
	log     *slog.Logger

	asked map[string]*question // by broker; the database's is "". Of run alone

	mu      sync.Mutex
	now     sight
	failure *failure
	newest  time.Time // when the latest event to be enqueued of those that this process's relay has delivered was enqueued
}

// failure is why this process's relay did not deliver a message.
type failure struct {
	at    time.Time
	topic string
	cause error
}

// sight is what a monitor saw.
type sight struct {
	// seen says that there was a look at all. Database says why the outbox could not be read; the rest is then older.
	seen     bool
	database error
	stats    core.Stats
	lease    core.Lease
	// brokers says of each broker why it cannot be reached. Those that cannot be asked are not in it.
	brokers map[string]error
}

func newMonitor(o *config.Outbox, maxAge time.Duration, log *slog.Logger) *monitor {
	return &monitor{dialect: o.Dialect, brokers: o.Brokers, maxAge: maxAge, log: log}
}

// run looks until ctx is done.
func (m *monitor) run(ctx context.Context) {
	for wait := firstWatch; ; wait = min(2*wait, watchEvery) {
		m.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

func (m *monitor) look(ctx context.Context) {
	next := sight{seen: true, brokers: map[string]error{}}
	var mu sync.Mutex
	var looking sync.WaitGroup
	database := m.question("")
	looking.Go(func() {
		read := &sight{} // not next, which one that is left behind must not touch
		next.database = database.put(ctx, m.dialect, func(ctx context.Context) (err error) {
			read.stats, read.lease, err = readOutbox(ctx, m.dialect)
			return err
		})
		if next.database == nil {
			next.stats, next.lease = read.stats, read.lease
		}
	})
	for name, broker := range m.brokers {
		asked, ok := core.Ability[checker](broker)
		if !ok {
			continue
		}
		question := m.question(name)
		looking.Go(func() {
			err := question.put(ctx, asked, func(ctx context.Context) error { return asked.Check(ctx) })
			mu.Lock()
			defer mu.Unlock()
			next.brokers[name] = err
		})
	}
	looking.Wait()
	if ctx.Err() != nil {
		return
	}
	m.mu.Lock()
	last := m.now
	if next.database != nil {
		next.stats, next.lease = last.stats, last.lease
	}
	m.now = next
	m.mu.Unlock()
	m.tell(last, next)
}

// question returns what asks a broker, or the database.
func (m *monitor) question(name string) *question {
	if m.asked == nil {
		m.asked = map[string]*question{}
	}
	if m.asked[name] == nil {
		m.asked[name] = &question{}
	}
	return m.asked[name]
}

// readOutbox reads what an outbox holds and who owns it.
func readOutbox(ctx context.Context, dialect core.Dialect) (stats core.Stats, lease core.Lease, err error) {
	ctx, cancel := context.WithTimeout(ctx, watchWithin)
	defer cancel()
	s, err := dialect.Open(ctx)
	if err != nil {
		return stats, lease, err
	}
	if stats, err = s.Stats(ctx); err == nil {
		lease, err = s.ReadLease(ctx)
	}
	return stats, lease, errors.Join(err, s.Close())
}

// tell logs what changed.
func (m *monitor) tell(last, next sight) {
	switch {
	case next.database != nil && (!last.seen || last.database == nil):
		m.log.Warn("the database is not usable: waiting for it", "cause", next.database)
	case next.database == nil && last.database != nil:
		m.log.Info("the database is usable again")
	}
	for name, err := range next.brokers {
		switch was := last.brokers[name]; {
		case err != nil && was == nil:
			m.log.Warn("the broker cannot be reached: waiting for it", "broker", name, "cause", err)
		case err == nil && was != nil:
			m.log.Info("the broker is reached again", "broker", name)
		}
	}
}

// published notes how far this process's relay has come, and its last failure.
func (m *monitor) published(call core.PublishReport) {
	m.advance(call)
	i := slices.IndexFunc(call.Results, func(result error) bool { return result != nil && !errors.Is(result, core.ErrNotAttempted) })
	if i < 0 {
		return
	}
	m.mu.Lock()
	m.failure = &failure{time.Now(), call.Messages[i].Topic, call.Results[i]}
	m.mu.Unlock()
}

func (m *monitor) advance(call core.PublishReport) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, result := range call.Results {
		if at := call.Messages[i].EnqueuedAt; result == nil && at.After(m.newest) {
			m.newest = at
		}
	}
}

// lag is how far delivery is behind: what was enqueued longer ago is delivered, but for what is held back. No event waits for
// longer than the oldest one.
func (m *monitor) lag(now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.newest.IsZero() {
		return m.now.stats.OldestAge
	}
	return max(0, min(m.now.stats.OldestAge, now.Sub(m.newest)))
}

// lastFailure says when and why this process's relay last failed to deliver a message. It is empty if it never did.
func (m *monitor) lastFailure() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failure == nil {
		return ""
	}
	return fmt.Sprintf("; %v ago one of topic %q failed: %v", time.Since(m.failure.at).Round(time.Second), m.failure.topic, m.failure.cause)
}

// seen returns what was seen last.
func (m *monitor) seen() sight {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// problems says why events are not being delivered. None of it is a secret.
func (m *monitor) problems() []string {
	now := m.seen()
	var found []string
	switch {
	case !now.seen:
		return []string{"nothing is known yet"}
	case now.database != nil:
		found = append(found, "the database is not usable: "+now.database.Error())
	case now.lease.Expired:
		found = append(found, "no relay holds the lease")
	}
	if now.stats.OldestAge > m.maxAge && now.database == nil {
		found = append(found, fmt.Sprintf("the oldest pending event is %v old, which is more than max_pending_age (%v)%s",
			now.stats.OldestAge.Round(time.Second), m.maxAge, m.lastFailure()))
	}
	for _, name := range slices.Sorted(maps.Keys(now.brokers)) {
		if err := now.brokers[name]; err != nil {
			found = append(found, fmt.Sprintf("the broker %s cannot be reached: %v", name, err))
		}
	}
	return found
}
