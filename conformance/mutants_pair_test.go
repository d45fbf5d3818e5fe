package conformance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pairMutant is a pair with one fault, of a kind that real outboxes had, the check that must find it, and what that says.
type pairMutant struct {
	caught string
	says   string // or one of several that are true of it, parted by |: which one shows first is chance
	alter  alteredDialect
	begin  func() alteredDialect                 // where alter has a state, which no other run must see
	broker publishFunc                           // nil: the recorder's own
	harm   func(p *pair, m *Memory, r *Recorder) // changes what the fixture does
}

var pairMutants = map[string]pairMutant{
	"forgets what it has received": {caught: "pair-inbox", says: "orders were committed, and",
		alter: receiving(func(context.Context, *Memory, *MemoryTx, receipt) (bool, error) { return true, nil })},
	"takes some of what is new for received": {caught: "pair-inbox", says: "orders were committed, and",
		alter: receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
			first, err := m.Receive(ctx, tx, r.consumer, r.id)
			return first && !strings.HasSuffix(r.id, "0"), err
		})},
	"loses with its server what it said it stored": {caught: "pair-inbox-restart", says: "orders were committed, and",
		harm: func(p *pair, _ *Memory, r *Recorder) {
			up := p.broker.Restart
			p.broker.Restart = func() error {
				r.mu.Lock()
				r.stored = r.stored[:len(r.stored)-1]
				r.mu.Unlock()
				return up()
			}
		}},
	"enqueues outside of the transaction": {caught: "pair-atomic", says: "never committed",
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, _ core.Execer, msgs []core.Message) error {
			tx, err := m.Begin(ctx)
			if err != nil {
				return err
			}
			return errors.Join(m.Enqueue(ctx, tx, msgs), tx.Commit())
		}}},
	"keeps nothing when the application is slow": {caught: "pair-atomic", says: "never arrived",
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			if strings.HasSuffix(msgs[0].ID, "0") {
				return nil
			}
			return m.Enqueue(ctx, tx, msgs)
		}}},
	"acknowledges a whole fetched batch when its head was sent": {caught: "pair-uncertain-answers", says: "never arrived",
		alter: alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
			last := refs[0].Position
			for _, ref := range refs {
				last = max(last, ref.Position)
			}
			result, err := s.Fetch(ctx, core.FetchRequest{Limit: 10_000, MaxBytes: 1 << 30})
			for _, r := range result.Records {
				if r.Position < last {
					refs = append(refs, r.Ref())
				}
			}
			return errors.Join(err, s.Acknowledge(ctx, refs))
		}}}},
	"lets the successor overtake a head that backs off": {caught: "pair-refusals", says: "an empty outbox: not within",
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			result.Records = slices.DeleteFunc(result.Records, func(r core.Record) bool { return r.RetryIn > 0 })
			return result, err
		}}}},
	"deletes poison and offers it on a channel that drops": {caught: "pair-dead-letter", says: "a dead letter, and the other keys delivered: not within",
		alter: alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
			var refs []core.Ref
			for _, b := range burials {
				refs = append(refs, b.Ref)
			}
			return s.Acknowledge(ctx, refs)
		}}}},
	"removes by retention what was not delivered": {caught: "pair-broker-silent", says: "never arrived",
		alter: alteredDialect{session: altered{promote: func(ctx context.Context, s *memorySession, epoch int64, limit int) (core.Promotion, error) {
			result, err := s.Fetch(ctx, core.FetchRequest{Limit: 10_000, MaxBytes: 1 << 30})
			var old []core.Ref
			for _, r := range result.Records {
				if time.Since(r.Message.EnqueuedAt) > 300*time.Millisecond {
					old = append(old, r.Ref())
				}
			}
			if err == nil && len(old) > 0 {
				err = s.Acknowledge(ctx, old)
			}
			if err != nil {
				return core.Promotion{}, err
			}
			return s.Promote(ctx, epoch, limit)
		}}}},
	"reads behind a cursor alone": {caught: "pair-late-commit", says: "not within",
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			r.Gaps = nil
			return s.Fetch(ctx, r)
		}}}},
	"gives a gap up because it is old": {caught: "pair-late-commit", says: "not within",
		alter: alteredDialect{session: altered{resolve: func(_ context.Context, _ *memorySession, gaps []core.Gap) error {
			for i := range gaps {
				gaps[i].Dead = true
			}
			return nil
		}}}},
	"waits with everything for the oldest open transaction": {caught: "pair-late-commit", says: "while an earlier transaction is open",
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			if s.memory.Contents().Transactions > 0 {
				result.Records = nil
			}
			return result, err
		}}}},
	"promotes in the order of enqueueing": {caught: "pair-delayed", says: "out of order",
		alter: alteredDialect{session: altered{promote: func(ctx context.Context, s *memorySession, epoch int64, _ int) (core.Promotion, error) {
			m := s.memory
			m.mu.Lock()
			for _, row := range m.delayed.rows {
				if due := m.now().Add(time.Minute).UnixMicro(); row.due < due {
					row.due = 1
				}
			}
			slices.SortFunc(m.delayed.rows, compareRows)
			m.mu.Unlock()
			return s.Promote(ctx, epoch, 1000)
		}}}},
	"keeps half of a dead letter": {caught: "pair-dead-letter", says: "the dead letter is",
		alter: lettered(func(l *core.DeadLetter) { l.Message.Payload = l.Message.Payload[:len(l.Message.Payload)/2] })},
	"does not say what a letter died of": {caught: "pair-dead-letter", says: "the dead letter's cause is",
		alter: lettered(func(l *core.DeadLetter) { l.Cause = "failed" })},
	"acknowledges nothing in the end": {caught: "pair-graceful-stop", says: "a relay that was asked to stop returned",
		begin: func() alteredDialect {
			var calls atomic.Int64
			return alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
				if calls.Add(1) > 5 {
					return errors.New("permission denied")
				}
				return s.Acknowledge(ctx, refs)
			}}}
		}},
	"forgets delayed events": {caught: "pair-delayed", says: "not within",
		alter: alteredDialect{session: altered{promote: func(context.Context, *memorySession, int64, int) (core.Promotion, error) {
			return core.Promotion{}, nil
		}}}},
	"puts what is retried at the end": {caught: "pair-dead-retry", says: "out of order",
		alter: alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
			n, err := s.RetryDead(ctx, f, limit)
			m := s.memory
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, row := range slices.Clone(m.outbox.rows) {
				if row.message.ID == f.ID {
					m.outbox.rows = slices.DeleteFunc(m.outbox.rows, func(r *memoryRow) bool { return r == row })
					row.position = m.next
					m.next++
					m.outbox.rows = append(m.outbox.rows, row)
				}
			}
			return n, err
		}}}},
	"lets a key go on behind its dead letter": {caught: "pair-dead-letter", says: "not within",
		alter: alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
			for i := range burials {
				burials[i].Skip = true
			}
			return s.Bury(ctx, burials)
		}}}},
	"deletes what an operator drops": {caught: "pair-dead-drop", says: "0 dead letters, want 1",
		alter: alteredDialect{session: altered{drop: func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
			n, err := s.DropDead(ctx, f, reason, limit)
			s.memory.mu.Lock()
			s.memory.dead.rows = nil
			s.memory.mu.Unlock()
			return n, err
		}}}},
	"loses commits when it is restarted": {caught: "pair-database-restart", says: "never arrived",
		harm: func(p *pair, m *Memory, r *Recorder) {
			p.Restart = func() error {
				m.Restart(Restart{Lose: 40})
				return nil
			}
		}},
	"commits what a crash should have ended": {caught: "pair-crash-before-commit", says: "was committed",
		harm: func(p *pair, m *Memory, r *Recorder) { p.Cut = func() {} }},
	"never connects again": {caught: "pair-database-outage", says: "a relay that publishes: not within",
		harm: func(p *pair, m *Memory, r *Recorder) {
			outage := p.Outage
			p.Outage = func() (func(), error) {
				heal, err := outage()
				return func() {
					heal()
					m.Inject(func(c Call) Fault {
						if c.Op == "Open" {
							return Fault{Refuse: ErrBroken}
						}
						return Fault{}
					})
				}, err
			}
		}},

	"keeps enqueues waiting while it publishes": {caught: "pair-nothing-waits", says: "fails, or waits", begin: lockedWhilePublishing},
	"holds everything back behind a message that failed": {caught: "pair-one-bad-key", says: "every event of other keys delivered: not within",
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			if slices.ContainsFunc(s.memory.Contents().Records, func(r core.Record) bool { return r.Attempts > 0 }) {
				result.Records = nil
			}
			return result, err
		}}}},
	"overwrites what another process writes at the same time": {caught: "pair-takeover-overlap", says: "never arrived",
		broker: overwriting()},
	// What the earlier relay has in flight arrives behind what the later one begins with; what it had not read, never.
	"begins at the end when it takes over": {caught: "pair-takeover", says: "never arrived|out of order",
		alter: alteredDialect{session: altered{take: func(ctx context.Context, s *memorySession, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
			taken, err := s.TakeLease(ctx, seen, holder, ttl)
			if taken && seen.Epoch > 0 {
				s.memory.mu.Lock()
				s.memory.outbox.rows = nil
				s.memory.mu.Unlock()
			}
			return taken, err
		}}}},
	"takes its own impatience for a refusal": {caught: "pair-slow-broker", says: "attempts were counted",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			err := inner.Publish(ctx, msgs)
			if ctx.Err() != nil {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("took too long")}, len(msgs))}
			}
			return err
		}},
	"stores in memory what it says is on disk": {caught: "pair-broker-restart", says: "never arrived",
		harm: func(p *pair, _ *Memory, r *Recorder) {
			up := p.broker.Restart
			p.broker.Restart = func() error {
				r.mu.Lock()
				r.stored = r.stored[:len(r.stored)-3]
				r.mu.Unlock()
				return up()
			}
		}},
	"says that it stored what it only took in": {caught: "pair-broker-outage", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			_ = inner.Publish(ctx, msgs)
			return nil
		}},
	"takes silence for consent": {caught: "pair-broker-silent", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		}},
	"takes a broken connection for success": {caught: "pair-connections-cut", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); !errors.Is(err, core.ErrUncertain) {
				return err
			}
			return nil
		}},
	"counts an outage as refusals": {caught: "pair-broker-outage", says: "attempts were counted",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrUnavailable) {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("connection refused")}, len(msgs))}
			}
			return err
		}},
	"buries what an outage kept": {caught: "pair-broker-flapping", says: "buried",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrUnavailable) {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return err
		}},
	"sends the head of a batch, and says so of the whole": {caught: "pair-many-keys", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			return inner.Publish(ctx, msgs[:1])
		}},
	"sends a batch in another order": {caught: "pair-hot-key", says: "out of order",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			msgs = slices.Clone(msgs)
			slices.Reverse(msgs)
			return inner.Publish(ctx, msgs)
		}},
	"goes on behind a message that failed": {caught: "pair-connections-cut", says: "out of order", broker: goingOn(false)},
	"goes on behind a message that it refuses for good": {caught: "pair-poison", says: "2 events arrived that were never committed, or must not arrive",
		broker: goingOn(false)},
	"goes on behind what it refuses, and denies it": {caught: "pair-poison", says: "2 events arrived that were never committed, or must not arrive",
		broker: goingOn(true)},
	"loses the keys": {caught: "pair-atomic", says: "are not what was enqueued",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			msgs = copyMessages(msgs)
			for i := range msgs {
				msgs[i].Key = ""
			}
			return inner.Publish(ctx, msgs)
		}},
	"condemns a batch for one message": {caught: "pair-poison", says: "a dead letter: not within",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			err := inner.Publish(ctx, msgs)
			if errors.Is(err, core.ErrPermanent) {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return err
		}},
	"says that poison is stored": {caught: "pair-poison", says: "a dead letter: not within",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			if err := inner.Publish(ctx, msgs); !errors.Is(err, core.ErrPermanent) {
				return err
			}
			return nil
		}},
	"sends each message twice": {caught: "pair-graceful-stop", says: "were sent twice",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			return errors.Join(inner.Publish(ctx, msgs), inner.Publish(ctx, msgs))
		}},
	"forgets its messages when it is stopped": {caught: "pair-relay-killed", says: "never arrived",
		broker: func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
			go func() {
				pause(ctx, 5*time.Millisecond) // a client that sends in the background, and dies with its process
				if ctx.Err() == nil {
					_ = inner.Publish(ctx, msgs)
				}
			}()
			return nil
		}},
}

// goingOn is a broker that sends what stands in a call behind a message of its key that failed, and may say that it did not.
func goingOn(denied bool) publishFunc {
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		results, failed := make([]error, len(msgs)), map[string]bool{}
		for i := range msgs {
			err := inner.Publish(ctx, msgs[i:i+1])
			var batch *core.BatchError
			if errors.As(err, &batch) {
				err = batch.Results[0]
			}
			if denied && failed[msgs[i].Key] {
				err = core.ErrNotAttempted
			}
			results[i] = err
			failed[msgs[i].Key] = failed[msgs[i].Key] || err != nil
		}
		if !slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
			return nil
		}
		return &core.BatchError{Results: results}
	}
}

// lockedWhilePublishing is a dialect under which what was fetched stays locked until it is acknowledged, and an enqueue
// waits for that.
func lockedWhilePublishing() alteredDialect {
	var locked atomic.Bool
	return alteredDialect{
		enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			for locked.Load() {
				pause(ctx, 10*time.Millisecond)
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			return m.Enqueue(ctx, tx, msgs)
		},
		session: altered{
			fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
				result, err := s.Fetch(ctx, r)
				if len(result.Records) > 0 {
					locked.Store(true)
				}
				return result, err
			},
			acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
				locked.Store(false)
				return s.Acknowledge(ctx, refs)
			},
		},
	}
}

// harmless are pairs that look wrong and break no promise: a check that fails for them asks for too much.
var harmless = map[string]pairMutant{
	"two relays that both own the outbox": {caught: "pair-relay-killed",
		alter: alteredDialect{session: altered{renew: func(context.Context, *memorySession, string, int64, time.Duration, bool) (bool, error) {
			return true, nil
		}}}},
	"a lease that anybody may take": {caught: "pair-takeover",
		alter: alteredDialect{session: altered{read: func(ctx context.Context, s *memorySession) (core.Lease, error) {
			lease, err := s.ReadLease(ctx)
			lease.Expired = true
			return lease, err
		}}}},
	"every event sent twice": {caught: "pair-many-keys", broker: pairMutants["sends each message twice"].broker},
	"positions with holes": {caught: "pair-many-keys",
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			m.mu.Lock()
			m.next += 7
			m.mu.Unlock()
			return m.Enqueue(ctx, tx, msgs)
		}}},
}

func (mutant pairMutant) run(t *testing.T, c check[pair]) CheckResult {
	m := NewMemory(MemoryConfig{})
	if mutant.begin != nil {
		mutant.alter = mutant.begin()
	}
	mutant.alter.Memory = m
	r := &Recorder{}
	config := ClientConfig{KeyOrdered: true}
	broker, elsewhere := r.Client(config), r.Client(config)
	if mutant.broker != nil {
		broker, elsewhere = wrap(broker, mutant.broker), wrap(elsewhere, mutant.broker)
	}
	p := pair{MemoryFixture(m), RecorderFixture(r, broker)}
	p.broker.Elsewhere = elsewhere
	p.Dialect = mutant.alter
	if mutant.harm != nil {
		mutant.harm(&p, m, r)
	}
	return c.verdict(t.Context(), p, pairSuite.limit(p))
}

// overwriting loses a call that begins while another one is under way.
func overwriting() publishFunc {
	var calls atomic.Int64
	return func(ctx context.Context, inner core.Broker, msgs []core.Message) error {
		defer calls.Add(-1)
		if calls.Add(1) > 1 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
		return inner.Publish(ctx, msgs)
	}
}

func pairCheck(t *testing.T, id string) check[pair] {
	t.Helper()
	for _, g := range pairGroups {
		for _, c := range g.checks {
			if c.id == id {
				return c
			}
		}
	}
	t.Fatalf("there is no check %s", id)
	return check[pair]{}
}

// mutantRuns is within how many runs of its check a mutant is caught. A check draws its schedule, and a fault of the kind that
// meets an event at the wrong moment misses the moment in some.
const mutantRuns = 20

// Each of these faults is found by the check that is there for it, by what it does and not by a time-out, and each check
// finds one.
func TestPairMutantsAreCaught(t *testing.T) {
	finds := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(pairMutants)) {
		mutant := pairMutants[name]
		c := pairCheck(t, mutant.caught)
		finds[c.id] = true
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				got, runs := mutant.run(t, c), 1
				for ; got.Status == Passed && runs < mutantRuns; runs++ {
					got = mutant.run(t, c)
				}
				t.Logf("caught by run %d", runs)
				says := func(text string) bool { return strings.Contains(got.Error, text) }
				if got.Status != Failed || !slices.ContainsFunc(strings.Split(mutant.says, "|"), says) {
					t.Errorf("of a pair that %s, the check %s says %q; want %q", name, c.id, got.Error, mutant.says)
				}
				if got.TimedOut {
					t.Errorf("a pair that %s is caught by a time-out and nothing better: %s", name, got.Error)
				}
				time.Sleep(20 * checkTimeout) // for what a fault has left behind
			})
		})
	}
	for _, g := range pairGroups {
		if g.ofFixture {
			continue // TestMistakesInTheFixturesOfAPairAreTold
		}
		for _, c := range g.checks {
			if !finds[c.id] && c.id != foundElsewhere {
				t.Errorf("no mutant shows that the check %s finds anything", c.id)
			}
		}
	}
}

// foundElsewhere is a check that compares events with rows, which a Memory does not have: its mutant runs on a real
// database, in internal/matrix.
const foundElsewhere = "pair-lost-commit-answer"

func TestHarmlessPairsPass(t *testing.T) {
	for name, mutant := range harmless {
		c := pairCheck(t, mutant.caught)
		t.Run(strings.ReplaceAll(name, " ", "-")+"/"+c.id, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if got := mutant.run(t, c); got.Status != Passed {
					t.Errorf("%s breaks no promise, and %s says %s", name, c.id, got.Error)
				}
			})
		})
	}
}
