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

// retryingInTwo is a retry that changes m right after its transaction, and again in a second one.
func retryingInTwo(first, second func(m *Memory, generation int64)) alteredDialect {
	return alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		generation := m.generation
		n, err := s.RetryDead(ctx, f, limit)
		m.locked(func() { first(m, generation) })
		time.Sleep(time.Millisecond)
		m.locked(func() { second(m, generation) })
		return n, err
	}}}
}

func dropping(drop func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error)) alteredDialect {
	return alteredDialect{session: altered{drop: drop}}
}

var deadMutants = map[string]mutant{
	"lists any id":            {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.ID = "" }), []string{"dead-filter"}},
	"lists any topic":         {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Topic = "" }), []string{"dead-filter"}},
	"lists any key":           {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Key = "" }), []string{"dead-filter"}},
	"lists any cause":         {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = "" }), []string{"dead-filter"}},
	"knows wildcards":         {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = strings.Trim(f.CauseContains, "%_") }), []string{"dead-filter"}},
	"folds case":              {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.CauseContains = strings.ToLower(f.CauseContains) }), []string{"dead-filter"}},
	"lists no dropped":        {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.Dropped = false }), []string{"dead-filter", "dead-drop"}},
	"lists any age":           {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.OlderThan = 0 }), []string{"dead-older"}},
	"lists no age":            {listing(func(f *core.DeadFilter, _ *core.Ref, _ *int) { f.OlderThan *= 1000 }), []string{"dead-older"}},
	"has one page":            {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { *after = core.Ref{} }), []string{"dead-pages"}},
	"has no page end":         {listing(func(_ *core.DeadFilter, _ *core.Ref, limit *int) { *limit = 1000 }), []string{"dead-pages"}},
	"repeats page ends":       {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.Position-- }), []string{"dead-pages"}},
	"pages by position alone": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.ID = "\U0010FFFF" }), []string{"dead-pages"}},
	"pages by any case":       {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) { after.ID = strings.ToLower(after.ID) }), []string{"dead-pages"}},
	"pages by id in any position": {listing(func(_ *core.DeadFilter, after *core.Ref, _ *int) {
		if after.ID == "x" {
			after.Position++
		}
	}), []string{"dead-pages"}},

	"retries all":       {retrying(func(_ *Memory, _ *core.DeadFilter, limit *int) { *limit = 1000 }, nil), []string{"dead-limit"}},
	"retries in secret": {retrying(nil, func(m, old *Memory) { m.generation = old.generation }), []string{"dead-retry", "fetch-generation"}},
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
	}}}, []string{"fetch-generation"}},
	"retries, and then says so": {retryingInTwo(func(m *Memory, generation int64) { // what a process that dies between them leaves
		m.generation = generation
	}, func(m *Memory, generation int64) { m.generation = generation + 1 }), []string{"fetch-generation"}},
	"says that it retries, and does": {alteredDialect{session: altered{retry: func(ctx context.Context, s *memorySession, f core.DeadFilter, limit int) (int, error) {
		m := s.memory
		m.locked(func() { m.generation++ })
		time.Sleep(time.Millisecond)
		generation := m.generation
		n, err := s.RetryDead(ctx, f, limit)
		m.locked(func() { m.generation = generation })
		return n, err
	}}}, []string{"fetch-generation"}},
	"retries and stays blocked": {retrying(nil, func(m, old *Memory) { m.blocked = old.blocked }),
		[]string{"dead-retry", "dead-retry-blocked", "dead-limit"}},
	"retries and unblocks always": {retrying(nil, func(m, _ *Memory) { clear(m.blocked) }), []string{"dead-retry-blocked", "dead-limit"}},
	"retries with old attempts": {retrying(nil, func(m, _ *Memory) {
		if len(m.outbox.rows) > 0 {
			m.outbox.rows[0].attempts = 1
		}
	}), []string{"dead-retry"}},
	"retries at the end": {retrying(nil, func(m, _ *Memory) {
		if len(m.outbox.rows) > 0 {
			row := *m.outbox.rows[0]
			row.position = m.next
			m.next++
			m.outbox.rows = append(slices.Clone(m.outbox.rows[1:]), &row)
		}
	}), []string{"dead-retry"}},
	"retries the dropped": {retrying(func(m *Memory, f *core.DeadFilter, _ *int) {
		f.Dropped = len(m.dead.rows) > 0 && !m.dead.rows[0].droppedAt.IsZero()
	}, nil), []string{"dead-drop"}},

	"deletes what is dropped": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		n, err := s.DropDead(ctx, f, reason, limit)
		s.memory.dead.rows = slices.DeleteFunc(s.memory.dead.rows, func(r *memoryRow) bool { return !r.droppedAt.IsZero() })
		return n, err
	}), []string{"dead-drop"}},
	"forgets reasons": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, _ string, limit int) (int, error) {
		return s.DropDead(ctx, f, "", limit)
	}), []string{"dead-drop"}},
	"drops all": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, _ int) (int, error) {
		return s.DropDead(ctx, f, reason, 1000)
	}), []string{"dead-limit"}},
	"drops in secret": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.DropDead(ctx, f, reason, limit)
	}), []string{"dead-drop", "fetch-generation"}},

	"unblocks in secret": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.Unblock(ctx, topic, key)
	}}}, []string{"unblock", "fetch-generation"}},
	"unblocks and forgets": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		s.memory.dead.rows = nil
		return s.Unblock(ctx, topic, key)
	}}}, []string{"unblock"}},
	"always says unblocked": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		_, err := s.Unblock(ctx, topic, key)
		return true, err
	}}}, []string{"unblock"}},

	"lists blocked keys by key": {alteredDialect{session: altered{listBlocked: func(ctx context.Context, s *memorySession, topic, key string, limit int) ([]core.BlockedKey, error) {
		keys, err := s.ListBlocked(ctx, "", "", 1000)
		keys = slices.DeleteFunc(keys, func(k core.BlockedKey) bool { return k.Key <= key })
		return keys[:min(limit, len(keys))], err
	}}}, []string{"blocked-pages"}},
	"lists blocked keys without limit": {alteredDialect{session: altered{listBlocked: func(ctx context.Context, s *memorySession, topic, key string, _ int) ([]core.BlockedKey, error) {
		return s.ListBlocked(ctx, topic, key, 1000)
	}}}, []string{"blocked-pages"}},
}
