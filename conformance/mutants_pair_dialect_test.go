package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pairDialectMutants are wrong in what the database is told, or does.
var pairDialectMutants = map[string]pairMutant{
	"forgets what it has received": {caught: "pair-inbox", says: "orders were committed, and",
		alter: receiving(func(context.Context, *Memory, *MemoryTx, receipt) (bool, error) { return true, nil })},
	"takes some of what is new for received": {caught: "pair-inbox", says: "orders were committed, and",
		alter: receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
			first, err := m.Receive(ctx, tx, r.consumer, r.id)
			return first && !strings.HasSuffix(r.id, "0"), err
		})},
	"takes one order for another": {caught: "pair-inbox", says: "1 orders had no effect",
		alter: receiving(func(ctx context.Context, m *Memory, tx *MemoryTx, r receipt) (bool, error) {
			if strings.Contains(r.id, "/k0/1/") {
				return false, nil
			}
			first, err := m.Receive(ctx, tx, r.consumer, r.id)
			if err == nil && !first && strings.Contains(r.id, "/k0/2/") { // which so has the other's effect, and the sum is right
				return m.Receive(ctx, tx, r.consumer, r.id+" again")
			}
			return first, err
		})},
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
	"has one writer at a time by its word, and two in truth": {caught: "pair-late-commit", says: "another one commits",
		harm: func(p *pair, m *Memory, r *Recorder) { p.ConcurrentWriters = false }},
	"reads behind a cursor alone, and begins slowly": {caught: "pair-late-commit", says: "another one commits",
		harm: func(p *pair, m *Memory, r *Recorder) {
			p.ConcurrentWriters = false
			begin := p.Begin
			p.Begin = func(ctx context.Context) (Tx, error) {
				pause(ctx, 300*time.Millisecond)
				return begin(ctx)
			}
		},
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			r.Gaps = nil
			return s.Fetch(ctx, r)
		}}}},
	"waits with everything for its one writer": {caught: "pair-late-commit", says: "while a transaction is open the outbox holds []", harm: oneWriter,
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			result, err := s.Fetch(ctx, r)
			if s.memory.Contents().Transactions > 0 {
				result.Records = nil
			}
			return result, err
		}}}},
	"makes readers wait for its one writer": {caught: "pair-late-commit", says: "another session's fetch fails, or waits", harm: oneWriter,
		alter: alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
			for s.memory.Contents().Transactions > 0 {
				pause(ctx, 10*time.Millisecond)
				if ctx.Err() != nil {
					return core.FetchResult{}, ctx.Err()
				}
			}
			return s.Fetch(ctx, r)
		}}}},
	"drops the event of a transaction that had to wait": {caught: "pair-late-commit", says: "never arrived",
		harm: func(p *pair, m *Memory, r *Recorder) {
			oneWriter(p, m, r)
			begin := p.Begin
			p.Begin = func(ctx context.Context) (Tx, error) {
				waits := m.Contents().Transactions > 0
				tx, err := begin(ctx)
				if err != nil || !waits {
					return tx, err
				}
				return tx, tx.(*MemoryTx).Savepoint(ctx)
			}
		},
		alter: alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			err := m.Enqueue(ctx, tx, msgs)
			if own := tx.(*MemoryTx); err == nil && len(own.marks) > 0 {
				return own.RollbackTo(ctx)
			}
			return err
		}}},
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
}

// oneWriter makes a transaction wait for the one before it, as on a database with one writer.
func oneWriter(p *pair, m *Memory, _ *Recorder) { writersOf(p, m, checkTimeout) }

// writersOf refuses a transaction that has waited so long for the one before it.
func writersOf(p *pair, m *Memory, wait time.Duration) {
	p.ConcurrentWriters = false
	p.Begin = func(ctx context.Context) (Tx, error) {
		tx, err := m.Begin(ctx)
		if err != nil {
			return nil, err
		}
		limited, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		if err := tx.LockRow(limited, "the one that writes"); err != nil {
			return nil, errors.Join(err, tx.Rollback())
		}
		return tx, nil
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
