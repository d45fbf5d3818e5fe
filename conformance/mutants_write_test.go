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
		caught{"atomic-commit": `the outbox holds [], want ["a" "b"]`}},
	"enqueues on its own": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, _ core.Execer, msgs []core.Message) error {
		tx, _ := m.Begin(ctx)
		m.Enqueue(ctx, tx, msgs)
		return tx.Commit()
	}},
		caught{
			"atomic-rollback":  `the outbox holds ["a"], want []`,
			"atomic-savepoint": `the outbox holds ["a" "b"], want ["a"]`,
			"delayed-atomic":   "Promote with limit 10 returned {Moved:2 Fenced:false}, want 1 moved"},
	},
	"enqueues in another order": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		slices.Reverse(msgs)
		return m.Enqueue(ctx, tx, msgs)
	}}, caught{"enqueue-order": "record 0 is the message 1, want 10000"}},
	"changes messages": {changing(func(m *core.Message) { m.NotBefore = m.NotBefore.Add(1) }),
		caught{"enqueue-keeps-nothing": "the message {a orders a map[h:v] [123 125]"}},
	"keeps messages": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		err := m.Enqueue(ctx, tx, msgs)
		for i, row := range tx.(*MemoryTx).rows {
			row.message = msgs[i]
		}
		return err
	}}, caught{"enqueue-keeps-nothing": "the message {a orders a map[h:v] [123 125]"}},
	"sends statements one by one": {executing(func(execute func() (sql.Result, error)) error {
		execute()
		_, err := execute()
		return err
	}), caught{"enqueue-statement": "memory: exec: unsupported operation"}},
	"looks at results": {executing(func(execute func() (sql.Result, error)) error {
		result, _ := execute()
		_, err := result.RowsAffected()
		return err
	}), caught{"enqueue-statement": "Enqueue through a transaction whose results are nil panicked: runtime error: invalid memory address"}},
	"tries again": {executing(func(execute func() (sql.Result, error)) error {
		execute()
		_, err := execute()
		return err
	}), caught{"enqueue-error": "a transaction whose statements fail was given 2 of them, and Enqueue returned the database's, want"}},
	"passes errors over": {executing(func(execute func() (sql.Result, error)) error { execute(); return nil }),
		caught{"enqueue-error": "a transaction whose statements fail was given 1 of them, and Enqueue returned <nil>, want 1 and the"}},
	"trims keys": {changing(func(m *core.Message) { m.Key = strings.TrimSpace(m.Key) }),
		caught{"round-trip": `fetched {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`}},
	"stores payloads as text": {changing(func(m *core.Message) { m.Payload = bytes.ToValidUTF8(m.Payload, []byte("?")) }),
		caught{
			"round-trip":       `fetched {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`,
			"promote-complete": `the promoted message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single' "double"`,
			"bury-moves":       `the dead letter's message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single'`},
	},
	"forgets headers": {changing(func(m *core.Message) { m.Headers = nil }),
		caught{
			"round-trip":       "fetched {plain orders 42 map[]",
			"promote-complete": `the promoted message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single' "double"`},
	},
	"delays nothing": {changing(func(m *core.Message) { m.NotBefore = time.Time{} }),
		caught{"promote-due": `the outbox holds ["much later" "due"], want []`}},
	"delays by a hour": {changing(func(m *core.Message) { m.NotBefore = m.NotBefore.Add(time.Hour) }),
		caught{
			"promote-due":   "a delayed event whose time has come is not moved: not within 20s",
			"promote-order": "Promote with limit 1 returned {Moved:0 Fenced:false}, want 1 moved"},
	},
	"uses positions again": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		defer func() { s.memory.next = 1 }()
		return s.Acknowledge(ctx, refs)
	}}}, caught{"position-not-reused": "after position 1 the outbox holds [{1 {1 orders 42 map[] [123 125]"}},
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

// leaving alters what an acknowledgement leaves behind.
func leaving(after func(m *Memory)) alteredDialect {
	return alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		err := s.Acknowledge(ctx, refs)
		s.memory.locked(func() { after(s.memory) })
		return err
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
	"acknowledges by position alone": {acknowledging((*Memory).byPosition), caught{"acknowledge-both": `the outbox holds ["c"], want ["b" "c"]`}},
	"acknowledges by id alone":       {acknowledging((*Memory).byID), caught{"acknowledge-both": `the outbox holds ["c"], want ["b" "c"]`}},
	"refuses what is gone": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		for _, ref := range refs {
			if s.memory.at(ref.Position).position == 0 {
				return errors.New("gone")
			}
		}
		return s.Acknowledge(ctx, refs)
	}}}, caught{"acknowledge-again": "gone", "sessions-at-once": "gone"}},
	"acknowledges 1000 at most": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		return s.Acknowledge(ctx, refs[:min(1000, len(refs))])
	}}}, caught{"acknowledge-many": `the outbox holds ["1000" "1001" "1002" "1003" "1004" "1005" "1006" "1007" "1008" "1009" "1010"`}},

	"removes the dead letters, too": {leaving(func(m *Memory) { m.dead.rows = nil }),
		caught{"acknowledge-both": "the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:false} are [],"}},
	"unblocks keys, too": {leaving(func(m *Memory) { clear(m.blocked) }),
		caught{"acknowledge-both": `the outbox holds ["b" "c" "behind it"], want ["b" "c"]`}},
	"removes what is delayed, too": {leaving(func(m *Memory) { m.delayed.rows = nil }),
		caught{"acknowledge-both": "there are {N:0 Exact:true} delayed events, want 1"}},

	"fails by position alone": {failing(func(m *Memory, f *core.Failure) { m.byPosition(&f.Ref) }),
		caught{"fail-both": `"a" has 1 attempts after a failure of another record`}},
	"fails by id alone": {failing(func(m *Memory, f *core.Failure) { m.byID(&f.Ref) }),
		caught{"fail-both": `"a" has 1 attempts after a failure of another record`}},
	"counts each failure": {failing(func(m *Memory, f *core.Failure) { f.Attempts = m.at(f.Position).attempts + 1 }),
		caught{
			"fail-once":        "after Fail with 2 attempts it has 1 and is due in 1m0s, want 0 and about 0 h",
			"sessions-at-once": "a record whose failure 4 relays noted once has 4 attempts"},
	},
	"takes minutes for hours": {failing(func(_ *Memory, f *core.Failure) { f.RetryIn /= 60 }),
		caught{"fail-noted": "after its first failure, to be retried in an hour, it has 1 attempts and is due in 1m0s"}},
	"notes the first failure of a call": {alteredDialect{session: altered{fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
		return s.Fail(ctx, failures[:min(1, len(failures))])
	}}}, caught{"fail-noted": "the second of two failures in one call, to be retried in 150 ms, has 0 attempts and is due in 0s"}},
	"never retries": {failing(func(_ *Memory, f *core.Failure) { f.RetryIn += time.Minute }),
		caught{"fail-noted": "after its first failure, to be retried in an hour, it has 1 attempts and is due in 1h1m0s"}},

	"buries by position alone": {burying(func(m *Memory, b *core.Burial) { m.byPosition(&b.Ref) }),
		caught{"bury-both": `the outbox holds [], want ["a"]`}},
	"buries by id alone": {burying(func(m *Memory, b *core.Burial) { m.byID(&b.Ref) }), caught{"bury-both": `the outbox holds [], want ["a"]`}},
	"blocks nothing": {burying(func(_ *Memory, b *core.Burial) { b.Skip = true }),
		caught{
			"bury-blocks":   `the outbox holds ["d" "e" "f"], want ["d" "e"]`,
			"fetch-blocked": `the outbox holds ["behind it" "other key" "no key" "other topic" "upper case" "with a space"`,
			"bury-again":    `the outbox holds ["b"], want []`,
			"blocked-pages": `the next two blocked keys are [], want ["T z" "t B"]`},
	},
	"blocks always": {burying(func(_ *Memory, b *core.Burial) { b.Skip = false }),
		caught{"bury-blocks": `the outbox holds ["e"], want ["d" "e"]`}},
	"forgets causes": {burying(func(_ *Memory, b *core.Burial) { b.Cause = "" }),
		caught{
			"bury-moves":  "the dead letter is",
			"dead-filter": "the dead letters that match {ID: Topic: Key: CauseContains:cause of OlderThan:0s Dropped:false} are"},
	},
	"forgets attempts": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		err := s.Bury(ctx, burials)
		for _, row := range s.memory.dead.rows {
			row.attempts = 1
		}
		return err
	}}}, caught{"bury-moves": "the dead letter is"}},
	"blocks what is gone": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		s.memory.locked(func() { s.memory.block(topicKey{"orders", "a"}, core.BlockedKey{Topic: "orders", Key: "a"}) })
		return s.Bury(ctx, burials)
	}}}, caught{"bury-both": `the outbox holds [], want ["a"]`}},
	"blocks the empty key": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		s.memory.locked(func() { s.memory.block(topicKey{"orders", ""}, core.BlockedKey{Topic: "orders"}) })
		return s.Bury(ctx, burials)
	}}}, caught{"bury-blocks": `the outbox holds [], want ["d" "e"]`}},
	"refuses a second burial": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		if s.memory.at(burials[0].Position).position == 0 {
			return errors.New("gone")
		}
		return s.Bury(ctx, burials)
	}}}, caught{"bury-again": "gone"}},
	"buries whatever the attempts": {burying(func(m *Memory, b *core.Burial) {
		if row := m.at(b.Position); row.position != 0 {
			b.Attempts = row.attempts + 1
		}
	}), caught{"bury-late": `the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:false} are ["a"],`}},
	"buries a copy": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		kept := slices.Clone(s.memory.outbox.rows)
		err := s.Bury(ctx, burials)
		s.memory.locked(func() { s.memory.outbox.rows = kept })
		return err
	}}}, caught{"bury-moves": `the outbox holds ["é漢`}},
}
