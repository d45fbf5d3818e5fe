package conformance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// listing alters the filter that dead letters are listed by.
func listing(change func(f *core.DeadFilter, after *core.Ref, limit *int)) alteredDialect {
	return alteredDialect{session: altered{listDead: func(ctx context.Context, s *memorySession, f core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
		change(&f, &after, &limit)
		return s.ListDead(ctx, f, after, limit)
	}}}
}

// retrying alters a retry: what it is called with, and what it leaves behind.
func retrying(before func(m *Memory, f *core.DeadFilter, limit *int), after func(m, old *Memory)) alteredDialect {
	return alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		old := &Memory{generation: m.generation, blocked: map[topicKey][]core.BlockedKey{}}
		for key, blockers := range m.blocked {
			old.blocked[key] = blockers
		}
		if before != nil {
			before(m, &f, &limit)
		}
		n, err := s.RetryDead(ctx, f, limit)
		if after != nil {
			m.locked(func() { after(m, old) })
		}
		return n, err
	}}}
}

// takeUpDropped makes what was dropped look as if it was not.
func (m *Memory) takeUpDropped() {
	m.locked(func() {
		for i, row := range m.dead.rows {
			waiting := *row
			waiting.droppedAt = time.Time{}
			m.replaceRow(&m.dead, i, &waiting)
		}
	})
}

// retryingBy alters the filter that dead letters are retried by.
func retryingBy(change func(f *core.DeadFilter)) alteredDialect {
	return retrying(func(_ *Memory, f *core.DeadFilter, _ *int) { change(f) }, nil)
}

// droppingBy alters the filter that dead letters are dropped by.
func droppingBy(change func(f *core.DeadFilter)) alteredDialect {
	return dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		change(&f)
		return s.DropDead(ctx, f, reason, limit)
	})
}

// retryingInTwo is a retry that changes m right after its transaction, and again in a second one.
func retryingInTwo(first, second func(m *Memory, generation int64)) alteredDialect {
	return alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		generation := m.generation
		n, err := s.RetryDead(ctx, f, limit)
		m.locked(func() { first(m, generation) })
		time.Sleep(time.Millisecond) // the window of the race that this is about
		m.locked(func() { second(m, generation) })
		return n, err
	}}}
}

func dropping(drop func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error)) alteredDialect {
	return alteredDialect{session: altered{drop: drop}}
}

var deadMutants = map[string]mutant{
	"lists any id": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.ID = "" }),
		caught{"dead-filter": `the dead letters that match {ID:b Topic: Key: CauseContains: OlderThan:0s Dropped:false} are ["a"`}},
	"lists any topic": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Topic = "" }),
		caught{"dead-filter": `the dead letters that match {ID: Topic:t Key: CauseContains: OlderThan:0s Dropped:false} are ["a"`}},
	"lists any key": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Key = "" }),
		caught{"dead-filter": `the dead letters that match {ID: Topic: Key:1 CauseContains: OlderThan:0s Dropped:false} are ["a"`}},
	"lists any cause": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = "" }),
		caught{"dead-filter": "the dead letters that match {ID: Topic: Key: CauseContains:of b OlderThan:0s Dropped:false} are"}},
	"knows wildcards": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = strings.Trim(f.CauseContains, "%_") }),
		caught{"dead-filter": `the dead letters that match {ID: Topic: Key: CauseContains:% OlderThan:0s Dropped:false} are ["a"`}},
	"folds case": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = strings.ToLower(f.CauseContains) }),
		caught{"dead-filter": "the dead letters that match {ID: Topic: Key: CauseContains:OF b OlderThan:0s Dropped:false} are"}},
	"lists no dropped": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Dropped = false }),
		caught{
			"dead-filter": `the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true} are ["a" "b"`,
			"dead-drop":   `the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true} are ["b"],`},
	},
	"lists any age": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.OlderThan = 0 }),
		caught{"dead-older": "the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:1h0m0s Dropped:false} are"}},
	"lists no age": {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.OlderThan *= 1000 }),
		caught{"dead-older": "a dead letter does not get older than 100 ms: not within 20s"}},
	"counts any": {alteredDialect{session: altered{countDead: func(ctx context.Context, s *memorySession, f core.DeadFilter) (int64, error) {
		return s.CountDead(ctx, core.DeadFilter{Dropped: f.Dropped})
	}}}, caught{"dead-filter": "CountDead({ID:b Topic: Key: CauseContains: OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"counts no dropped": {alteredDialect{session: altered{countDead: func(ctx context.Context, s *memorySession, f core.DeadFilter) (int64, error) {
		f.Dropped = false
		return s.CountDead(ctx, f)
	}}}, caught{"dead-filter": "CountDead({ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true}) returned 5, want 0"}},
	"has one page": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { *after = core.Ref{} }),
		caught{"dead-pages": `2 dead letters after {Position:2 ID:b} are ["a" "b"], want ["c" "d"]`}},
	"has no page end": {listing(func(_ *core.DeadFilter, _ *core.Ref, limit *int) { *limit = 1000 }),
		caught{"dead-pages": `2 dead letters after {Position:0 ID:} are ["a" "b" "c" "d" "e"], want ["a" "b"]`}},
	"repeats page ends": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.Position-- }),
		caught{"dead-pages": `2 dead letters after {Position:2 ID:b} are ["b" "c"], want ["c" "d"]`}},
	"pages by position alone": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.ID = "\U0010FFFF" }),
		caught{"dead-pages": `2 dead letters after {Position:3 ID:} are ["d" "e"], want ["c" "d"]`}},
	"pages by any case": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.ID = strings.ToLower(after.ID) }),
		caught{"dead-pages": `2 dead letters after {Position:3 ID:D} are ["d" "e"], want ["c" "d"]`}},
	"pages by id in any position": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) {
		if after.ID == "x" {
			after.Position++
		}
	}), caught{"dead-pages": `1 dead letters after {Position:2 ID:x} are ["d"], want ["c"]`}},

	"retries any id": {retryingBy(func(f *core.DeadFilter) { f.ID = "" }),
		caught{"dead-filter": "RetryDead({ID:b Topic: Key: CauseContains: OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"retries any topic": {retryingBy(func(f *core.DeadFilter) { f.Topic = "" }),
		caught{"dead-filter": "RetryDead({ID: Topic:t Key: CauseContains: OlderThan:0s Dropped:false}) returned 5, want 2"}},
	"retries any key": {retryingBy(func(f *core.DeadFilter) { f.Key = "" }),
		caught{"dead-filter": "RetryDead({ID: Topic: Key:1 CauseContains: OlderThan:0s Dropped:false}) returned 5, want 3"}},
	"retries any cause": {retryingBy(func(f *core.DeadFilter) { f.CauseContains = "" }),
		caught{"dead-filter": "RetryDead({ID: Topic: Key: CauseContains:of b OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"retries by wildcard": {retryingBy(func(f *core.DeadFilter) { f.CauseContains = strings.Trim(f.CauseContains, "%_") }),
		caught{"dead-filter": "RetryDead({ID: Topic: Key: CauseContains:% OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"retries by doubled quotes": {retryingBy(func(f *core.DeadFilter) { f.CauseContains = strings.ReplaceAll(f.CauseContains, "'", "''") }),
		caught{"dead-filter": `RetryDead({ID: Topic: Key: CauseContains:t's "e OlderThan:0s Dropped:false}) returned 0, want 1`}},
	"retries any age": {retryingBy(func(f *core.DeadFilter) { f.OlderThan = 0 }),
		caught{"dead-filter": "RetryDead({ID: Topic: Key: CauseContains: OlderThan:1h0m0s Dropped:false}) returned 5, want 0"}},
	"retries no age": {retryingBy(func(f *core.DeadFilter) { f.OlderThan *= 1000 }),
		caught{"dead-older": "RetryDead of what is older than 100 ms returned 0, want 1"}},
	"drops any id": {droppingBy(func(f *core.DeadFilter) { f.ID = "" }),
		caught{"dead-filter": "DropDead({ID:a Topic: Key: CauseContains: OlderThan:0s Dropped:false}) returned 2, want 1"}},
	"drops any topic": {droppingBy(func(f *core.DeadFilter) { f.Topic = "" }),
		caught{"dead-filter": "DropDead({ID: Topic:T Key: CauseContains: OlderThan:0s Dropped:false}) returned 3, want 1"}},
	"drops any key": {droppingBy(func(f *core.DeadFilter) { f.Key = "" }),
		caught{"dead-filter": "DropDead({ID: Topic: Key:2 CauseContains: OlderThan:0s Dropped:false}) returned 4, want 1"}},
	"drops any cause": {droppingBy(func(f *core.DeadFilter) { f.CauseContains = "" }),
		caught{"dead-filter": "DropDead({ID: Topic: Key: CauseContains:% OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"drops by wildcard": {droppingBy(func(f *core.DeadFilter) { f.CauseContains = strings.Trim(f.CauseContains, "%_") }),
		caught{"dead-filter": "DropDead({ID: Topic: Key: CauseContains:% OlderThan:0s Dropped:false}) returned 5, want 1"}},
	"drops any age": {droppingBy(func(f *core.DeadFilter) { f.OlderThan = 0 }),
		caught{"dead-filter": "DropDead({ID: Topic: Key: CauseContains: OlderThan:1h0m0s Dropped:false}) returned 5, want 0"}},
	"drops no age": {droppingBy(func(f *core.DeadFilter) { f.OlderThan *= 1000 }),
		caught{"dead-older": "a dead letter that is older than 100 ms is not dropped: not within 20s"}},

	"retries all": {retrying(func(_ *Memory, _ *core.DeadFilter, limit *int) { *limit = 1000 }, nil),
		caught{"dead-limit": "RetryDead with limit 2 returned 5, want 2"}},
	"retries in secret": {retrying(nil, func(m, old *Memory) { m.generation = old.generation }),
		caught{"dead-retry": "after RetryDead the generation still is 0", "fetch-generation": "RetryDead of a message with a key: in the generation"}},
	"retries without a key in secret": {alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		generation, keyed := m.generation, false
		for _, row := range m.dead.rows {
			keyed = keyed || row.message.Key != ""
		}
		n, err := s.RetryDead(ctx, f, limit)
		if !keyed {
			m.locked(func() { m.generation = generation })
		}
		return n, err
	}}}, caught{"fetch-generation": "RetryDead of a message without a key: in the generation 6 a record was fetched: false, and in the"}},
	"retries, and then says so": {retryingInTwo(func(m *Memory, generation int64) { // what a process that dies between them leaves
		m.generation = generation
	}, func(m *Memory, generation int64) { m.generation = generation + 1 }),
		caught{"fetch-generation": "RetryDead of a message with a key: in the generation"}},
	"says that it retries, and does": {alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		m.locked(func() { m.generation++ })
		time.Sleep(time.Millisecond) // the window of the race that this is about
		generation := m.generation
		n, err := s.RetryDead(ctx, f, limit)
		m.locked(func() { m.generation = generation })
		return n, err
	}}}, caught{"fetch-generation": "RetryDead of a message with a key: in the generation"}},
	"retries and stays blocked": {retrying(nil, func(m, old *Memory) { m.blocked = old.blocked }),
		caught{
			"dead-retry":         `the blocked keys are ["42"], want []`,
			"dead-retry-blocked": `the blocked keys are ["42"], want []`,
			"dead-limit":         `the outbox holds [], want ["a" "b"]`},
	},
	"retries and unblocks always": {retrying(nil, func(m, _ *Memory) { clear(m.blocked) }),
		caught{"dead-retry-blocked": `the blocked keys are [], want ["42"]`, "dead-limit": `the blocked keys are [], want ["c" "d" "e"]`}},
	"retries with old attempts": {retrying(nil, func(m, _ *Memory) {
		if len(m.outbox.rows) > 0 {
			m.outbox.rows[0].attempts = 1
		}
	}), caught{"dead-retry": "the retried dead letter is {Position:1 Message:{ID:a Topic:orders Key:42 Headers:map[] Payload:[123"}},
	"retries at the end": {retrying(nil, func(m, _ *Memory) {
		if len(m.outbox.rows) > 0 {
			row := *m.outbox.rows[0]
			row.position = m.next
			m.next++
			m.outbox.rows = append(slices.Clone(m.outbox.rows[1:]), &row)
		}
	}), caught{"dead-retry": `the outbox holds ["b" "c" "a"], want ["a" "b" "c"]`}},
	"retries the dropped": {retrying(func(m *Memory, f *core.DeadFilter, _ *int) {
		if !f.Dropped {
			m.takeUpDropped()
		}
	}, nil), caught{"dead-drop": "RetryDead of a dropped one returned 1, want 0"}},
	"retries the dropped when it is asked for them": {retrying(func(m *Memory, f *core.DeadFilter, _ *int) {
		if f.Dropped {
			m.takeUpDropped()
			f.Dropped, f.ID = false, "a"
		}
	}, nil), caught{"dead-drop": "RetryDead by a filter for dropped ones returned 1, want 0"}},
	"drops the dropped when it is asked for them": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		if f.Dropped {
			s.memory.takeUpDropped()
			f.Dropped, f.ID = false, "a"
		}
		return s.DropDead(ctx, f, reason, limit)
	}), caught{"dead-drop": "DropDead by a filter for dropped ones returned 1, want 0"}},

	"deletes what is dropped": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		n, err := s.DropDead(ctx, f, reason, limit)
		s.memory.dead.rows = slices.DeleteFunc(s.memory.dead.rows, func(r *memoryRow) bool { return !r.droppedAt.IsZero() })
		return n, err
	}), caught{"dead-drop": "the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true} are [], want"}},
	"forgets reasons": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, _ string, limit int) (int, error) {
		return s.DropDead(ctx, f, "", limit)
	}), caught{"dead-drop": `the dropped dead letter has the reason "" and the cause "the cause of a"`}},
	"drops all": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, _ int) (int, error) {
		return s.DropDead(ctx, f, reason, 1000)
	}), caught{"dead-limit": "DropDead with limit 2 returned 3, want 2"}},
	"drops in secret": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.DropDead(ctx, f, reason, limit)
	}),
		caught{"dead-drop": "after DropDead the generation still is 0", "fetch-generation": "DropDead of what blocks its key: in the generation"}},

	"unblocks in secret": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.Unblock(ctx, topic, key)
	}}}, caught{"unblock": "after Unblock the generation still is 0", "fetch-generation": "a record was fetched: false, and in the same one later"}},
	"unblocks and forgets": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		s.memory.dead.rows = nil
		return s.Unblock(ctx, topic, key)
	}}}, caught{"unblock": "the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:false} are [],"}},
	"always says unblocked": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		_, err := s.Unblock(ctx, topic, key)
		return true, err
	}}}, caught{"unblock": `Unblock of "another" reported true`}},

	"lists blocked keys by key": {alteredDialect{session: altered{listBlocked: func(ctx context.Context, s *memorySession, topic, key string, limit int) ([]core.BlockedKey, error) {
		keys, err := s.ListBlocked(ctx, "", "", 1000)
		keys = slices.DeleteFunc(keys, func(k core.BlockedKey) bool { return k.Key <= key })
		return keys[:min(limit, len(keys))], err
	}}}, caught{"blocked-pages": `the next two blocked keys are ["T z" "t a"], want ["t a" "t b"]`}},
	"lists blocked keys without limit": {alteredDialect{session: altered{listBlocked: func(ctx context.Context, s *memorySession, topic, key string, _ int) ([]core.BlockedKey, error) {
		return s.ListBlocked(ctx, topic, key, 1000)
	}}}, caught{"blocked-pages": `the next two blocked keys are ["T z" "t B" "t a" "t b" "t é"], want ["T z" "t B"]`}},
}
