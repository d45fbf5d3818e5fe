package conformance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// pausing alters a pause, and what it leaves behind.
func pausing(after func(m *Memory, topic string, generation int64)) alteredDialect {
	return alteredDialect{session: altered{pause: func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		generation := s.memory.generation
		changed, err := s.PauseTopic(ctx, topic)
		s.memory.locked(func() { after(s.memory, topic, generation) })
		return changed, err
	}}}
}

func resuming(resume func(ctx context.Context, s *memorySession, topic string) (bool, error)) alteredDialect {
	return alteredDialect{session: altered{resume: resume}}
}

var pauseMutants = map[string]mutant{
	"pauses nothing": {pausing(func(m *Memory, topic string, _ int64) { delete(m.blocked, topicKey{topic: topic}) }),
		caught{
			"pause":        `returned ["a" "b" "c" "d" "e" "f"`,
			"pause-listed": `paused topics and blocked keys are ["orders/42"], want ["another/" "orders/" "orders/42"]`},
	},
	"pauses what has no key": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		result, err := s.Fetch(ctx, r)
		s.memory.locked(func() {
			for _, row := range s.memory.outbox.rows {
				if _, paused := s.memory.blocked[topicKey{topic: row.message.Topic}]; paused && row.message.Key != "" {
					result.Records = append(result.Records, row.record(time.Now()))
				}
			}
		})
		return result, err
	}}}, caught{"pause": `returned ["b" "d" "e" "later, open"`}},
	"pauses the tail alone": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		result, err := s.Fetch(ctx, r)
		s.memory.locked(func() {
			for _, gap := range r.Gaps {
				for _, row := range s.memory.outbox.rows {
					if _, paused := s.memory.blocked[topicKey{topic: row.message.Topic}]; paused && row.position >= gap.First && row.position <= gap.Last {
						result.Records = append(result.Records, row.record(time.Now()))
					}
				}
			}
		})
		return result, err
	}}}, caught{"pause": `the fetch {After:4 Gaps:[{First:1 Last:4}] Limit:100000 MaxBytes:1099511627776} returned ["b" "d"`}},
	"pauses any case": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: strings.ToUpper(topic[:1]) + topic[1:]}] = m.blocked[topicKey{topic: topic}]
	}), caught{"pause": `returned ["b" "e" "later, open"],`}},
	"pauses in secret": {pausing(func(m *Memory, _ string, generation int64) { m.generation = generation }),
		caught{"pause-reports": "after PauseTopic the generation still is 0", "fetch-generation": "a record was fetched: true, and in the same one later"}},
	"always says paused": {alteredDialect{session: altered{pause: func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		_, err := s.PauseTopic(ctx, topic)
		return true, err
	}}}, caught{"pause-reports": `PauseTopic("it's é ") reported true`}},
	"pauses at a position": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: topic}] = []core.BlockedKey{{Topic: topic, Position: 7, Since: time.Now()}}
	}), caught{"pause-listed": "the paused topics have the positions 7 and 7, want 0"}},
	"pauses since ever": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: topic}] = []core.BlockedKey{{Topic: topic}}
	}), caught{"pause-listed": "another/ was blocked now, and its Since is"}},
	"counts pauses": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.BlockedKeys = int64(len(s.memory.blocked))
		return stats, err
	}}}, caught{"pause-listed": "with one blocked key and two paused topics BlockedKeys is 3"}},
	"resumes nothing": {resuming(func(context.Context, *memorySession, string) (bool, error) { return true, nil }),
		caught{"pause": `returned ["b" "d" "e" "later,`}},
	"resumes in secret": {resuming(func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.ResumeTopic(ctx, topic)
	}),
		caught{
			"pause-reports":    "after ResumeTopic the generation still is 1",
			"fetch-generation": "a record was fetched: false, and in the same one later"},
	},
	"always says resumed": {resuming(func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		_, err := s.ResumeTopic(ctx, topic)
		return true, err
	}), caught{"pause-reports": `ResumeTopic("it's é ") reported true`}},
	"resumes with Unblock": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		if key == "" {
			return s.ResumeTopic(ctx, topic)
		}
		return s.Unblock(ctx, topic, key)
	}}}, caught{"pause-stays": "Unblock of the empty key reported true"}},
	"resumes with RetryDead": {retrying(nil, func(m, _ *Memory) { delete(m.blocked, topicKey{topic: "orders"}) }),
		caught{"pause-stays": `the outbox holds ["no key" "retried"], want []`}},
	"resumes with DropDead": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		n, err := s.DropDead(ctx, f, reason, limit)
		s.memory.locked(func() { delete(s.memory.blocked, topicKey{topic: "orders"}) })
		return n, err
	}), caught{"pause-stays": `the outbox holds ["no key" "retried"], want []`}},
}

// archiving alters the archive after each acknowledgement.
func archiving(after func(m *Memory, old []*memoryRow)) alteredDialect {
	return alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		old := slices.Clone(s.memory.archive.rows)
		err := s.Acknowledge(ctx, refs)
		s.memory.locked(func() { after(s.memory, old) })
		return err
	}}}
}

// archivedRow alters each archived row.
func archivedRow(change func(r *memoryRow)) alteredDialect {
	return archiving(func(m *Memory, _ []*memoryRow) {
		for _, row := range m.archive.rows {
			change(row)
		}
	})
}

func listingArchived(change func(f *core.ArchiveFilter, after *core.Ref, limit *int)) alteredDialect {
	return alteredDialect{session: altered{listArchived: func(ctx context.Context, s *memorySession, f core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
		change(&f, &after, &limit)
		return s.ListArchived(ctx, f, after, limit)
	}}}
}

// replaying alters a replay: what it is called with, and what it leaves behind; first is the number of records before it.
func replaying(before func(f *core.ArchiveFilter, after *core.Ref, limit *int), after func(m *Memory, first int, last *core.Ref)) alteredDialect {
	return alteredDialect{session: altered{replay: func(ctx context.Context, s *memorySession, f core.ArchiveFilter, from core.Ref, limit int) (int, core.Ref, error) {
		first := len(s.memory.outbox.rows)
		if before != nil {
			before(&f, &from, &limit)
		}
		n, last, err := s.Replay(ctx, f, from, limit)
		if after != nil {
			s.memory.locked(func() { after(s.memory, first, &last) })
		}
		return n, last, err
	}}}
}

func purging(purge func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error)) alteredDialect {
	return alteredDialect{session: altered{purge: purge}}
}

var archiveMutants = map[string]mutant{
	"archives nothing": {archiving(func(m *Memory, old []*memoryRow) { m.archive.rows = old }),
		caught{"archive-acknowledge": "the archive holds [], want two events (<nil>)"}},
	"archives a copy":    {alteredDialect{session: altered{acknowledge: archiveOnly}}, caught{"archive-acknowledge": `the outbox holds ["a" "é漢`}},
	"archives ids alone": {acknowledging((*Memory).byPosition), caught{"archive-acknowledge": `the outbox holds ["a" "c"], want ["a" "b" "c"]`}},
	"archives again": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		old := slices.Clone(s.memory.archive.rows)
		err := s.Acknowledge(ctx, refs)
		s.memory.locked(func() {
			if len(old) == len(s.memory.archive.rows) && len(old) > 0 {
				s.memory.archive.rows = append(old, old[0])
			}
		})
		return err
	}}}, caught{"archive-acknowledge": `the archive holds [é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s longest`}},
	"archives without the payload": {archivedRow(func(r *memoryRow) { r.message.Payload = nil }),
		caught{"archive-acknowledge": "the archived event is", "replay-copies": "the replayed message is {a t k map[h:é] []"}},
	"archives without headers": {archivedRow(func(r *memoryRow) { r.message.Headers = nil }),
		caught{"archive-acknowledge": "the archived event is", "replay-copies": "the replayed message is {a t k map[]"}},
	"archives when delivered": {archivedRow(func(r *memoryRow) { r.created = time.Now().Add(time.Second) }),
		caught{"archive-acknowledge": "the archived event's EnqueuedAt is", "archive-filter": "the archived events that match"}},
	"archives without a time": {archivedRow(func(r *memoryRow) { r.delivered = r.created.Add(-time.Hour) }),
		caught{"archive-acknowledge": "the event was delivered now, and its DeliveredAt is", "purge-archive": "Purge(1h0m0s, 10) returned 4, want 0"}},

	"lists any archived id": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.ID = "" }),
		caught{"archive-filter": "the archived events that match {ID:b Topic: Key: From:"}},
	"lists any archived topic": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Topic = "" }),
		caught{"archive-filter": "the archived events that match {ID: Topic:t Key: From:"}},
	"lists any archived key": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Key = "" }),
		caught{"archive-filter": "the archived events that match {ID: Topic: Key:1 From:"}},
	"lists archived from ever": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.From = time.Time{} }),
		caught{"archive-filter": "the archived events that match"}},
	"lists archived to the end": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.To = time.Time{} }),
		caught{"archive-filter": "the archived events that match"}},
	"includes To": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.To = f.To.Add(1) }),
		caught{"archive-filter": "the archived events that match"}},
	"excludes From": {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.From = f.From.Add(1) }),
		caught{"archive-filter": "the archived events that match"}},
	"has one archive page": {listingArchived(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { *after = core.Ref{} }),
		caught{"archive-pages": `2 archived events after {Position:2 ID:b} are ["a" "b"], want ["c" "d"]`}},
	"has no archive page end": {listingArchived(func(_ *core.ArchiveFilter, _ *core.Ref, limit *int) { *limit = 1000 }),
		caught{"archive-pages": `2 archived events after {Position:0 ID:} are ["a" "b" "c" "d" "e"], want ["a" "b"]`}},
	"pages the archive any case": {listingArchived(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { after.ID = strings.ToLower(after.ID) }),
		caught{"archive-pages": `2 archived events after {Position:3 ID:D} are ["d" "e"], want ["c" "d"]`}},

	"replays nothing": {alteredDialect{session: altered{replay: func(context.Context, *memorySession, core.ArchiveFilter, core.Ref, int) (int, core.Ref, error) {
		return 0, core.Ref{}, nil
	}}},
		caught{
			"replay-copies": `after a replay the outbox holds ["last"], want ["last" "a" "b"]`,
			"replay-pages":  "Replay of two behind {Position:0 ID:} returned 0 and {Position:0 ID:}, want 2 and {Position:2 ID:b}"},
	},
	"replays with new ids": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for _, row := range m.outbox.rows[first:] {
			row.message.ID = core.NewID()
		}
	}), caught{"replay-copies": `want ["last" "a" "b"]`}},
	"replays backwards": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		rows := m.outbox.rows[first:]
		for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
			rows[i].message, rows[j].message = rows[j].message, rows[i].message
		}
	}), caught{"replay-copies": `after a replay the outbox holds ["last" "b" "a"], want ["last" "a" "b"]`}},
	"replays at old positions": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for i, row := range m.outbox.rows[first:] {
			row.position = int64(i + 1)
		}
	}), caught{"replay-copies": `"a" was replayed at position 1, and 3 was taken before`}},
	"replays with attempts": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for _, row := range m.outbox.rows[first:] {
			row.attempts = 1
		}
	}), caught{"replay-copies": `the replayed message "a" has 1 attempts and is due in 0s`}},
	"moves what it replays": {replaying(nil, func(m *Memory, _ int, _ *core.Ref) { m.archive.rows = nil }),
		caught{"replay-keeps": "the archived events that match"}},
	"archives one of an id": {archiving(func(m *Memory, old []*memoryRow) {
		if len(old) > 0 {
			m.archive.rows = old
		}
	}), caught{"replay-keeps": "the archived events that match"}},
	"replays everything": {replaying(func(_ *core.ArchiveFilter, _ *core.Ref, limit *int) { *limit = 1000 }, nil),
		caught{"replay-pages": "Replay of two behind {Position:0 ID:} returned 5 and {Position:5 ID:e}, want 2 and {Position:2 ID:b}"}},
	"replays any topic": {replaying(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Topic = "" }, nil),
		caught{"replay-pages": "Replay of two behind {Position:4 ID:d} returned 2 and {Position:6 ID:other}, want 1 and {Position:5"}},
	"replays from the start": {replaying(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { *after = core.Ref{} }, nil),
		caught{"replay-pages": "Replay of two behind {Position:2 ID:b} returned 2 and {Position:2 ID:b}, want 2 and {Position:4"}},
	"forgets where it stands": {replaying(nil, func(_ *Memory, _ int, last *core.Ref) { *last = core.Ref{} }),
		caught{"replay-pages": "Replay of two behind {Position:0 ID:} returned 2 and {Position:0 ID:}, want 2 and {Position:2 ID:b}"}},

	"purges nothing": {purging(func(context.Context, *memorySession, time.Duration, int) (int, error) { return 0, nil }),
		caught{"purge-archive": "Purge(0s, 1) returned 0, want 1", "purge-dropped": "Purge(0s, 1) returned 0, want 1"}},
	"purges any age": {purging(func(ctx context.Context, s *memorySession, _ time.Duration, limit int) (int, error) {
		return s.Purge(ctx, 0, limit)
	}), caught{"purge-archive": "Purge(1h0m0s, 10) returned 4, want 0", "purge-dropped": "Purge(1h0m0s, 10) returned 3, want 0"}},
	"purges without limit": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, _ int) (int, error) {
		return s.Purge(ctx, olderThan, 1000)
	}), caught{"purge-archive": "Purge(0s, 1) returned 4, want 1", "purge-dropped": "Purge(0s, 1) returned 3, want 1"}},
	"purges by position": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		for i, row := range s.memory.archive.rows {
			row.delivered = row.created.Add(time.Duration(i))
		}
		for i, row := range s.memory.dead.rows {
			if !row.droppedAt.IsZero() {
				row.droppedAt = row.buried.Add(time.Duration(i))
			}
		}
		return s.Purge(ctx, olderThan, limit)
	}),
		caught{
			"purge-archive": "the archived events that match",
			"purge-dropped": `the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true} are ["c"`},
	},
	"purges the outbox": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		s.memory.locked(func() { s.memory.outbox.rows = nil })
		return s.Purge(ctx, olderThan, limit)
	}), caught{"purge-archive": `the outbox holds [], want ["pending"]`}},
	"purges dead letters": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		for _, row := range s.memory.dead.rows {
			if row.droppedAt.IsZero() {
				row.droppedAt = row.buried
			}
		}
		return s.Purge(ctx, olderThan, limit)
	}), caught{"purge-dropped": `the dead letters that match {ID: Topic: Key: CauseContains: OlderThan:0s Dropped:true} are ["a" "b"`}},
	"purges no dead letters": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		dead := s.memory.dead.rows
		s.memory.dead.rows = nil
		defer func() { s.memory.dead.rows = dead }()
		return s.Purge(ctx, olderThan, limit)
	}), caught{"purge-dropped": "Purge(0s, 1) returned 0, want 1"}},
	"does not count what it purges": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		_, err := s.Purge(ctx, olderThan, limit)
		return 0, err
	}), caught{"purge-archive": "Purge(0s, 1) returned 0, want 1", "purge-dropped": "Purge(0s, 1) returned 0, want 1"}},
}

// archiveOnly archives and removes nothing.
func archiveOnly(ctx context.Context, s *memorySession, refs []core.Ref) error {
	kept := slices.Clone(s.memory.outbox.rows)
	err := s.Acknowledge(ctx, refs)
	s.memory.locked(func() { s.memory.outbox.rows = kept })
	return err
}

// farLonger returns a context that outlasts ctx, for calls that must not hang a test for good.
func farLonger(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 10*checkTimeout)
}

var listenMutants = map[string]mutant{
	"wakes nobody": {alteredDialect{listen: func(ctx context.Context, _ *Memory, _ func()) error {
		<-ctx.Done()
		return nil
	}},
		caught{
			"listen-begins": "when it began to listen: no wake-up within 5s",
			"listen-commit": "when it began to listen: no wake-up within 5s",
			"listen-ends":   "when it began to listen: no wake-up within 5s"},
	},
	"wakes once": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		wake()
		return m.Listen(ctx, func() {})
	}}, caught{"listen-commit": "after the commit of event 1: no wake-up within 5s"}},
	"wakes at commits alone": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		first := true
		return m.Listen(ctx, func() {
			if !first {
				wake()
			}
			first = false
		})
	}}, caught{"listen-begins": "when it began to listen: no wake-up within 5s"}},
	"listens for ever": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		ctx, cancel := farLonger(ctx)
		defer cancel()
		return m.Listen(ctx, wake)
	}}, caught{"listen-ends": "Listen did not return within 5s of its context's end"}},
	"announces nothing": {alteredDialect{notify: func(ctx context.Context, _ *Memory, _ <-chan struct{}) error {
		<-ctx.Done()
		return nil
	}}, caught{"listen-commit": "after the commit of event 1: no wake-up within 5s"}},
	"announces once": {alteredDialect{notify: func(ctx context.Context, m *Memory, committed <-chan struct{}) error {
		first := make(chan struct{}, 1)
		select {
		case <-committed:
			first <- struct{}{}
		case <-ctx.Done():
		}
		return m.Notify(ctx, first)
	}}, caught{"notify-repeats": "after the commit of event 2: no wake-up within 5s"}},
	"notifies for ever": {alteredDialect{notify: func(ctx context.Context, m *Memory, committed <-chan struct{}) error {
		ctx, cancel := farLonger(ctx)
		defer cancel()
		return m.Notify(ctx, committed)
	}}, caught{"notify-ends": "Notify, without a commit, did not return within 5s of its context's end"}},
	"notifies until a commit": {alteredDialect{notify: func(ctx context.Context, m *Memory, committed <-chan struct{}) error {
		long, cancel := farLonger(ctx)
		defer cancel()
		select {
		case <-committed:
		case <-long.Done():
		}
		again := make(chan struct{}, 1)
		again <- struct{}{}
		return m.Notify(ctx, again)
	}}, caught{"notify-ends": "Notify, without a commit, did not return within 5s of its context's end"}},
}
