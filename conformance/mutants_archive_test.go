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
		[]string{"pause", "pause-listed"}},
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
	}}}, []string{"pause"}},
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
	}}}, []string{"pause"}},
	"pauses any case": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: strings.ToUpper(topic[:1]) + topic[1:]}] = m.blocked[topicKey{topic: topic}]
	}), []string{"pause"}},
	"pauses in secret": {pausing(func(m *Memory, _ string, generation int64) { m.generation = generation }), []string{"pause-reports", "fetch-generation"}},
	"always says paused": {alteredDialect{session: altered{pause: func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		_, err := s.PauseTopic(ctx, topic)
		return true, err
	}}}, []string{"pause-reports"}},
	"pauses at a position": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: topic}] = []core.BlockedKey{{Topic: topic, Position: 7, Since: time.Now()}}
	}), []string{"pause-listed"}},
	"pauses since ever": {pausing(func(m *Memory, topic string, _ int64) {
		m.blocked[topicKey{topic: topic}] = []core.BlockedKey{{Topic: topic}}
	}), []string{"pause-listed"}},
	"counts pauses": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.BlockedKeys = int64(len(s.memory.blocked))
		return stats, err
	}}}, []string{"pause-listed"}},
	"resumes nothing": {resuming(func(context.Context, *memorySession, string) (bool, error) { return true, nil }), []string{"pause"}},
	"resumes in secret": {resuming(func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		generation := s.memory.generation
		defer s.memory.locked(func() { s.memory.generation = generation })
		return s.ResumeTopic(ctx, topic)
	}), []string{"pause-reports", "fetch-generation"}},
	"always says resumed": {resuming(func(ctx context.Context, s *memorySession, topic string) (bool, error) {
		_, err := s.ResumeTopic(ctx, topic)
		return true, err
	}), []string{"pause-reports"}},
	"resumes with Unblock": {alteredDialect{session: altered{unblock: func(ctx context.Context, s *memorySession, topic, key string) (bool, error) {
		if key == "" {
			return s.ResumeTopic(ctx, topic)
		}
		return s.Unblock(ctx, topic, key)
	}}}, []string{"pause-stays"}},
	"resumes with RetryDead": {retrying(nil, func(m, _ *Memory) { delete(m.blocked, topicKey{topic: "orders"}) }), []string{"pause-stays"}},
	"resumes with DropDead": {dropping(func(ctx context.Context, s *memorySession, f core.DeadFilter, reason string, limit int) (int, error) {
		n, err := s.DropDead(ctx, f, reason, limit)
		s.memory.locked(func() { delete(s.memory.blocked, topicKey{topic: "orders"}) })
		return n, err
	}), []string{"pause-stays"}},
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
	"archives nothing":   {archiving(func(m *Memory, old []*memoryRow) { m.archive.rows = old }), []string{"archive-acknowledge"}},
	"archives a copy":    {alteredDialect{session: altered{acknowledge: archiveOnly}}, []string{"archive-acknowledge"}},
	"archives ids alone": {acknowledging((*Memory).byPosition), []string{"archive-acknowledge"}},
	"archives again": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		old := slices.Clone(s.memory.archive.rows)
		err := s.Acknowledge(ctx, refs)
		s.memory.locked(func() {
			if len(old) == len(s.memory.archive.rows) && len(old) > 0 {
				s.memory.archive.rows = append(old, old[0])
			}
		})
		return err
	}}}, []string{"archive-acknowledge"}},
	"archives without the payload": {archivedRow(func(r *memoryRow) { r.message.Payload = nil }), []string{"archive-acknowledge", "replay-copies"}},
	"archives without headers":     {archivedRow(func(r *memoryRow) { r.message.Headers = nil }), []string{"archive-acknowledge", "replay-copies"}},
	"archives when delivered":      {archivedRow(func(r *memoryRow) { r.created = time.Now().Add(time.Second) }), []string{"archive-acknowledge", "archive-filter"}},
	"archives without a time":      {archivedRow(func(r *memoryRow) { r.delivered = r.created.Add(-time.Hour) }), []string{"archive-acknowledge", "purge-archive"}},

	"lists any archived id":      {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.ID = "" }), []string{"archive-filter"}},
	"lists any archived topic":   {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Topic = "" }), []string{"archive-filter"}},
	"lists any archived key":     {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Key = "" }), []string{"archive-filter"}},
	"lists archived from ever":   {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.From = time.Time{} }), []string{"archive-filter"}},
	"lists archived to the end":  {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.To = time.Time{} }), []string{"archive-filter"}},
	"includes To":                {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.To = f.To.Add(1) }), []string{"archive-filter"}},
	"excludes From":              {listingArchived(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.From = f.From.Add(1) }), []string{"archive-filter"}},
	"has one archive page":       {listingArchived(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { *after = core.Ref{} }), []string{"archive-pages"}},
	"has no archive page end":    {listingArchived(func(_ *core.ArchiveFilter, _ *core.Ref, limit *int) { *limit = 1000 }), []string{"archive-pages"}},
	"pages the archive any case": {listingArchived(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { after.ID = strings.ToLower(after.ID) }), []string{"archive-pages"}},

	"replays nothing": {alteredDialect{session: altered{replay: func(context.Context, *memorySession, core.ArchiveFilter, core.Ref, int) (int, core.Ref, error) {
		return 0, core.Ref{}, nil
	}}}, []string{"replay-copies", "replay-pages"}},
	"replays with new ids": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for _, row := range m.outbox.rows[first:] {
			row.message.ID = core.NewID()
		}
	}), []string{"replay-copies"}},
	"replays backwards": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		rows := m.outbox.rows[first:]
		for i, j := 0, len(rows)-1; i < j; i, j = i+1, j-1 {
			rows[i].message, rows[j].message = rows[j].message, rows[i].message
		}
	}), []string{"replay-copies"}},
	"replays at old positions": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for i, row := range m.outbox.rows[first:] {
			row.position = int64(i + 1)
		}
	}), []string{"replay-copies"}},
	"replays with attempts": {replaying(nil, func(m *Memory, first int, _ *core.Ref) {
		for _, row := range m.outbox.rows[first:] {
			row.attempts = 1
		}
	}), []string{"replay-copies"}},
	"moves what it replays": {replaying(nil, func(m *Memory, _ int, _ *core.Ref) { m.archive.rows = nil }), []string{"replay-keeps"}},
	"archives one of an id": {archiving(func(m *Memory, old []*memoryRow) {
		if len(old) > 0 {
			m.archive.rows = old
		}
	}), []string{"replay-keeps"}},
	"replays everything":      {replaying(func(_ *core.ArchiveFilter, _ *core.Ref, limit *int) { *limit = 1000 }, nil), []string{"replay-pages"}},
	"replays any topic":       {replaying(func(f *core.ArchiveFilter, _ *core.Ref, _ *int) { f.Topic = "" }, nil), []string{"replay-pages"}},
	"replays from the start":  {replaying(func(_ *core.ArchiveFilter, after *core.Ref, _ *int) { *after = core.Ref{} }, nil), []string{"replay-pages"}},
	"forgets where it stands": {replaying(nil, func(_ *Memory, _ int, last *core.Ref) { *last = core.Ref{} }), []string{"replay-pages"}},

	"purges nothing": {purging(func(context.Context, *memorySession, time.Duration, int) (int, error) { return 0, nil }), []string{"purge-archive", "purge-dropped"}},
	"purges any age": {purging(func(ctx context.Context, s *memorySession, _ time.Duration, limit int) (int, error) {
		return s.Purge(ctx, 0, limit)
	}), []string{"purge-archive", "purge-dropped"}},
	"purges without limit": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, _ int) (int, error) {
		return s.Purge(ctx, olderThan, 1000)
	}), []string{"purge-archive", "purge-dropped"}},
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
	}), []string{"purge-archive", "purge-dropped"}},
	"purges the outbox": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		s.memory.locked(func() { s.memory.outbox.rows = nil })
		return s.Purge(ctx, olderThan, limit)
	}), []string{"purge-archive"}},
	"purges dead letters": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		for _, row := range s.memory.dead.rows {
			if row.droppedAt.IsZero() {
				row.droppedAt = row.buried
			}
		}
		return s.Purge(ctx, olderThan, limit)
	}), []string{"purge-dropped"}},
	"purges no dead letters": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		dead := s.memory.dead.rows
		s.memory.dead.rows = nil
		defer func() { s.memory.dead.rows = dead }()
		return s.Purge(ctx, olderThan, limit)
	}), []string{"purge-dropped"}},
	"does not count what it purges": {purging(func(ctx context.Context, s *memorySession, olderThan time.Duration, limit int) (int, error) {
		_, err := s.Purge(ctx, olderThan, limit)
		return 0, err
	}), []string{"purge-archive", "purge-dropped"}},
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
	}}, []string{"listen-begins", "listen-commit", "listen-ends"}},
	"wakes once": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		wake()
		return m.Listen(ctx, func() {})
	}}, []string{"listen-commit"}},
	"wakes at commits alone": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		first := true
		return m.Listen(ctx, func() {
			if !first {
				wake()
			}
			first = false
		})
	}}, []string{"listen-begins"}},
	"listens for ever": {alteredDialect{listen: func(ctx context.Context, m *Memory, wake func()) error {
		ctx, cancel := farLonger(ctx)
		defer cancel()
		return m.Listen(ctx, wake)
	}}, []string{"listen-ends"}},
	"announces nothing": {alteredDialect{notify: func(ctx context.Context, _ *Memory, _ <-chan struct{}) error {
		<-ctx.Done()
		return nil
	}}, []string{"listen-commit"}},
	"announces once": {alteredDialect{notify: func(ctx context.Context, m *Memory, committed <-chan struct{}) error {
		first := make(chan struct{}, 1)
		select {
		case <-committed:
			first <- struct{}{}
		case <-ctx.Done():
		}
		return m.Notify(ctx, first)
	}}, []string{"notify-repeats"}},
	"notifies for ever": {alteredDialect{notify: func(ctx context.Context, m *Memory, committed <-chan struct{}) error {
		ctx, cancel := farLonger(ctx)
		defer cancel()
		return m.Notify(ctx, committed)
	}}, []string{"notify-ends"}},
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
	}}, []string{"notify-ends"}},
}
