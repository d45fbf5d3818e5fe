package conformance

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var enqueueMutants = map[string]mutant{
	"forgets what is enqueued": {alteredDialect{enqueue: func(context.Context, *Memory, core.Execer, []core.Message) error { return nil }},
		[]string{"atomic-commit"}},
	"enqueues on its own": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, _ core.Execer, msgs []core.Message) error {
		tx, _ := m.Begin(ctx)
		m.Enqueue(ctx, tx, msgs)
		return tx.Commit()
	}}, []string{"atomic-rollback", "atomic-savepoint", "delayed-atomic"}},
	"enqueues in another order": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		slices.Reverse(msgs)
		return m.Enqueue(ctx, tx, msgs)
	}}, []string{"enqueue-order"}},
	"changes messages": {changing(func(m *core.Message) { m.NotBefore = m.NotBefore.Add(1) }), []string{"enqueue-keeps-nothing"}},
	"keeps messages": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		err := m.Enqueue(ctx, tx, msgs)
		for i, row := range tx.(*MemoryTx).rows {
			row.message = msgs[i]
		}
		return err
	}}, []string{"enqueue-keeps-nothing"}},
	"sends statements one by one": {executing(func(execute func() (sql.Result, error)) error {
		execute()
		_, err := execute()
		return err
	}), []string{"enqueue-statement"}},
	"looks at results": {executing(func(execute func() (sql.Result, error)) error {
		result, _ := execute()
		_, err := result.RowsAffected()
		return err
	}), []string{"enqueue-statement"}},
	"tries again": {executing(func(execute func() (sql.Result, error)) error {
		execute()
		_, err := execute()
		return err
	}), []string{"enqueue-error"}},
	"passes errors over": {executing(func(execute func() (sql.Result, error)) error { execute(); return nil }), []string{"enqueue-error"}},
	"trims keys":         {changing(func(m *core.Message) { m.Key = strings.TrimSpace(m.Key) }), []string{"round-trip"}},
	"stores payloads as text": {changing(func(m *core.Message) { m.Payload = bytes.ToValidUTF8(m.Payload, []byte("?")) }),
		[]string{"round-trip", "promote-complete", "bury-moves"}},
	"forgets headers":  {changing(func(m *core.Message) { m.Headers = nil }), []string{"round-trip", "promote-complete"}},
	"delays nothing":   {changing(func(m *core.Message) { m.NotBefore = time.Time{} }), []string{"promote-due"}},
	"delays by a hour": {changing(func(m *core.Message) { m.NotBefore = m.NotBefore.Add(time.Hour) }), []string{"promote-due", "promote-order"}},
	"uses positions again": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		defer func() { s.memory.next = 1 }()
		return s.Acknowledge(ctx, refs)
	}}}, []string{"position-not-reused"}},
}

// changing alters what is enqueued.
func changing(change func(*core.Message)) alteredDialect {
	return alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for i := range msgs {
			change(&msgs[i])
		}
		return m.Enqueue(ctx, tx, msgs)
	}}
}

// executing is a dialect that sends SQL. A Memory has none: what such a dialect does right is shown by the real ones.
func executing(enqueue func(execute func() (sql.Result, error)) error) alteredDialect {
	return alteredDialect{enqueue: func(ctx context.Context, _ *Memory, tx core.Execer, _ []core.Message) error {
		return enqueue(func() (sql.Result, error) { return tx.ExecContext(ctx, "INSERT") })
	}}
}

// locked runs change on the database.
func (m *Memory) locked(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
}

// at returns the row at position, or an empty one.
func (m *Memory) at(position int64) *memoryRow {
	m.mu.Lock()
	defer m.mu.Unlock()
	if i := m.outbox.from(position); i < len(m.outbox.rows) && m.outbox.rows[i].position == position {
		return m.outbox.rows[i]
	}
	return &memoryRow{}
}

// byPosition makes a ref match by position alone.
func (m *Memory) byPosition(ref *core.Ref) { ref.ID = m.at(ref.Position).message.ID }

// byID makes a ref match by id alone.
func (m *Memory) byID(ref *core.Ref) {
	for _, r := range m.Contents().Records {
		if r.Message.ID == ref.ID {
			ref.Position = r.Position
		}
	}
}

func acknowledging(change func(m *Memory, ref *core.Ref)) alteredDialect {
	return alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		for i := range refs {
			change(s.memory, &refs[i])
		}
		return s.Acknowledge(ctx, refs)
	}}}
}

func failing(change func(m *Memory, f *core.Failure)) alteredDialect {
	return alteredDialect{session: altered{fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
		for i := range failures {
			change(s.memory, &failures[i])
		}
		return s.Fail(ctx, failures)
	}}}
}

func burying(change func(m *Memory, b *core.Burial)) alteredDialect {
	return alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		for i := range burials {
			change(s.memory, &burials[i])
		}
		return s.Bury(ctx, burials)
	}}}
}

var settleMutants = map[string]mutant{
	"acknowledges by position alone": {acknowledging((*Memory).byPosition), []string{"acknowledge-both"}},
	"acknowledges by id alone":       {acknowledging((*Memory).byID), []string{"acknowledge-both"}},
	"refuses what is gone": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		for _, ref := range refs {
			if s.memory.at(ref.Position).position == 0 {
				return errors.New("gone")
			}
		}
		return s.Acknowledge(ctx, refs)
	}}}, []string{"acknowledge-again", "sessions-at-once"}},
	"acknowledges 1000 at most": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		return s.Acknowledge(ctx, refs[:min(1000, len(refs))])
	}}}, []string{"acknowledge-many"}},

	"fails by position alone": {failing(func(m *Memory, f *core.Failure) { m.byPosition(&f.Ref) }), []string{"fail-both"}},
	"fails by id alone":       {failing(func(m *Memory, f *core.Failure) { m.byID(&f.Ref) }), []string{"fail-both"}},
	"counts each failure": {failing(func(m *Memory, f *core.Failure) { f.Attempts = m.at(f.Position).attempts + 1 }),
		[]string{"fail-once", "sessions-at-once"}},
	"takes minutes for hours": {failing(func(_ *Memory, f *core.Failure) { f.RetryIn /= 60 }), []string{"fail-noted"}},
	"notes the first failure of a call": {alteredDialect{session: altered{fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
		return s.Fail(ctx, failures[:min(1, len(failures))])
	}}}, []string{"fail-noted"}},
	"never retries": {failing(func(_ *Memory, f *core.Failure) { f.RetryIn += time.Minute }), []string{"fail-noted"}},

	"buries by position alone": {burying(func(m *Memory, b *core.Burial) { m.byPosition(&b.Ref) }), []string{"bury-both"}},
	"buries by id alone":       {burying(func(m *Memory, b *core.Burial) { m.byID(&b.Ref) }), []string{"bury-both"}},
	"blocks nothing":           {burying(func(_ *Memory, b *core.Burial) { b.Skip = true }), []string{"bury-blocks", "fetch-blocked", "bury-again", "blocked-pages"}},
	"blocks always":            {burying(func(_ *Memory, b *core.Burial) { b.Skip = false }), []string{"bury-blocks"}},
	"forgets causes":           {burying(func(_ *Memory, b *core.Burial) { b.Cause = "" }), []string{"bury-moves", "dead-filter"}},
	"forgets attempts": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		err := s.Bury(ctx, burials)
		for _, row := range s.memory.dead.rows {
			row.attempts = 1
		}
		return err
	}}}, []string{"bury-moves"}},
	"blocks what is gone": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		s.memory.locked(func() { s.memory.block(topicKey{"orders", "a"}, core.BlockedKey{Topic: "orders", Key: "a"}) })
		return s.Bury(ctx, burials)
	}}}, []string{"bury-both"}},
	"blocks the empty key": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		s.memory.locked(func() { s.memory.block(topicKey{"orders", ""}, core.BlockedKey{Topic: "orders"}) })
		return s.Bury(ctx, burials)
	}}}, []string{"bury-blocks"}},
	"refuses a second burial": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		if s.memory.at(burials[0].Position).position == 0 {
			return errors.New("gone")
		}
		return s.Bury(ctx, burials)
	}}}, []string{"bury-again"}},
	"buries whatever the attempts": {burying(func(m *Memory, b *core.Burial) {
		if row := m.at(b.Position); row.position != 0 {
			b.Attempts = row.attempts + 1
		}
	}), []string{"bury-late"}},
	"buries a copy": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		kept := slices.Clone(s.memory.outbox.rows)
		err := s.Bury(ctx, burials)
		s.memory.locked(func() { s.memory.outbox.rows = kept })
		return err
	}}}, []string{"bury-moves"}},
}
