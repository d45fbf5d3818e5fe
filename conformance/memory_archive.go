package conformance

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// archiveRows copies rows of the outbox, at indices that ascend, to the archive.
func (m *Memory) archiveRows(indices []int) {
	now := m.now()
	var rows []*memoryRow
	for _, i := range indices {
		row := *m.outbox.rows[i]
		row.delivered, row.retryAt, row.cause = now, time.Time{}, ""
		rows = append(rows, &row)
	}
	m.insertRows(&m.archive, rows, false)
}

func (r *memoryRow) archived(f *core.ArchiveFilter) bool {
	return (f.ID == "" || f.ID == r.message.ID) &&
		(f.Topic == "" || f.Topic == r.message.Topic) &&
		(f.Key == "" || f.Key == r.message.Key) &&
		(f.From.IsZero() || !r.created.Before(f.From)) &&
		(f.To.IsZero() || r.created.Before(f.To))
}

// archivedAfter returns the first limit rows of the archive that match filter and come after after.
func (m *Memory) archivedAfter(filter core.ArchiveFilter, after core.Ref, limit int) []*memoryRow {
	var rows []*memoryRow
	for _, row := range m.archive.rows[m.archive.from(after.Position):] {
		if len(rows) >= limit {
			break
		}
		if row.archived(&filter) && compareRefs(row.ref(), after) > 0 {
			rows = append(rows, row)
		}
	}
	return rows
}

func (s *memorySession) ListArchived(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) ([]core.ArchivedEvent, error) {
	var events []core.ArchivedEvent
	err := s.run(ctx, "ListArchived", func() error {
		now := s.memory.now()
		for _, row := range s.memory.archivedAfter(filter, after, limit) {
			events = append(events, core.ArchivedEvent{Record: row.record(now), DeliveredAt: row.delivered})
		}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return events, nil
}

func (s *memorySession) Replay(ctx context.Context, filter core.ArchiveFilter, after core.Ref, limit int) (n int, last core.Ref, err error) {
	last = after
	err = s.run(ctx, "Replay", func() error {
		m := s.memory
		var rows []*memoryRow
		for _, old := range m.archivedAfter(filter, after, limit) {
			row := &memoryRow{position: m.next, message: old.message, size: old.size, created: m.now()}
			m.next++
			rows, last = append(rows, row), old.ref()
		}
		n = len(rows)
		m.insertRows(&m.outbox, rows, false)
		m.commit()
		return nil
	}, nil)
	if err != nil {
		return 0, core.Ref{}, err
	}
	return n, last, nil
}

func (s *memorySession) Purge(ctx context.Context, olderThan time.Duration, limit int) (int, error) {
	purged := 0
	err := s.run(ctx, "Purge", func() error {
		m := s.memory
		purged = m.purge(&m.archive, func(r *memoryRow) time.Time { return r.delivered }, olderThan, limit) +
			m.purge(&m.dead, func(r *memoryRow) time.Time { return r.droppedAt }, olderThan, limit)
		m.commit()
		return nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return purged, nil
}

// purge removes the oldest rows of table, those for which since is zero aside.
func (m *Memory) purge(table *memoryTable, since func(*memoryRow) time.Time, olderThan time.Duration, limit int) int {
	until := m.now().Add(-olderThan)
	var indices []int
	for i, row := range table.rows {
		if t := since(row); !t.IsZero() && !t.After(until) {
			indices = append(indices, i)
		}
	}
	slices.SortStableFunc(indices, func(a, b int) int {
		return cmp.Compare(since(table.rows[a]).UnixNano(), since(table.rows[b]).UnixNano())
	})
	indices = indices[:min(limit, len(indices))]
	m.removeRows(table, indices)
	return len(indices)
}
