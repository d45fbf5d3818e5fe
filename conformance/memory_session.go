package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var (
	_ core.Session      = (*memorySession)(nil)
	_ core.ArchiveStore = (*memorySession)(nil)
)

// memorySession is one connection to a Memory. Each of its methods is one statement, or one transaction, that is
// executed at one instant.
type memorySession struct{ conn }

// Close closes the connection. A session that is broken has none any more.
func (s *memorySession) Close() error {
	s.occupy("Close")
	defer s.release()
	m := s.memory
	fault := m.consult(Call{Op: "Close", Session: s.session})
	_ = s.wait(context.Background(), fault.Before) // it closes in any case
	m.mu.Lock()
	defer m.mu.Unlock()
	s.breakLocked(ErrBroken)
	if i := slices.Index(m.sessions, s); i >= 0 {
		m.sessions = slices.Delete(m.sessions, i, i+1)
	}
	return nil
}

func (s *memorySession) Fetch(ctx context.Context, request core.FetchRequest) (core.FetchResult, error) {
	checkRequest(request)
	var result core.FetchResult
	err := s.run(ctx, "Fetch", func() error {
		result = s.memory.fetch(request)
		return nil
	}, nil)
	if err != nil {
		return core.FetchResult{}, err
	}
	return result, nil
}

// checkRequest stops an engine that asks for what the port does not allow. An error would look like an outage to it.
func checkRequest(r core.FetchRequest) {
	if r.Limit < 1 {
		panic("conformance: FetchRequest.Limit is less than 1")
	}
	last := int64(-1 << 62)
	for _, gap := range r.Gaps {
		if gap.First <= last || gap.Last < gap.First || gap.Last > r.After {
			panic("conformance: FetchRequest.Gaps are not ascending, disjoint and at or before After")
		}
		last = gap.Last
	}
}

// fetch reads the gaps and the tail as one statement's snapshot.
func (m *Memory) fetch(request core.FetchRequest) core.FetchResult {
	now := m.now()
	result := core.FetchResult{Generation: m.generation, Incarnation: m.serverName}
	size := 0
	read := func(i int, last int64) bool {
		rows := m.outbox.rows
		for ; i < len(rows) && rows[i].position <= last; i++ {
			row := rows[i]
			if m.isBlocked(row) {
				continue
			}
			if len(result.Records) == request.Limit || len(result.Records) > 0 && size >= request.MaxBytes {
				result.More = true
				return false
			}
			if result.Records == nil {
				result.Records = make([]core.Record, 0, min(request.Limit, len(rows)-i))
			}
			result.Records = append(result.Records, row.record(now))
			size += row.size
		}
		return true
	}
	for _, gap := range request.Gaps {
		if !read(m.outbox.from(gap.First), gap.Last) {
			return result
		}
	}
	read(m.outbox.from(request.After+1), 1<<63-1)
	return result
}

func (m *Memory) isBlocked(row *memoryRow) bool {
	if len(m.blocked) == 0 {
		return false
	}
	if _, paused := m.blocked[topicKey{topic: row.message.Topic}]; paused {
		return true
	}
	_, blocked := m.blocked[keyOf(&row.message)] // of an empty key: paused
	return blocked
}

func (s *memorySession) Acknowledge(ctx context.Context, refs []core.Ref) error {
	m := s.memory
	return s.run(ctx, "Acknowledge", func() error {
		indices := m.scratch[:0]
		for _, ref := range refs {
			if i := m.outbox.find(ref); i >= 0 {
				indices = append(indices, i)
			}
		}
		m.scratch = indices
		slices.Sort(indices)
		indices = slices.Compact(indices) // a message that was confirmed twice is in refs twice
		if m.config.Archive {
			m.archiveRows(indices)
		}
		m.removeRows(&m.outbox, indices)
		m.commit()
		return nil
	}, func() { refs = slices.Clone(refs) })
}

func (s *memorySession) Fail(ctx context.Context, failures []core.Failure) error {
	m := s.memory
	return s.run(ctx, "Fail", func() error {
		now := m.now()
		for _, failure := range failures {
			i := m.outbox.find(failure.Ref)
			if i < 0 || m.outbox.rows[i].attempts != failure.Attempts-1 {
				continue
			}
			row := *m.outbox.rows[i]
			row.attempts, row.retryAt, row.cause = failure.Attempts, now.Add(failure.RetryIn), failure.Cause
			m.replaceRow(&m.outbox, i, &row)
		}
		m.commit()
		return nil
	}, func() { failures = slices.Clone(failures) })
}

func (s *memorySession) Bury(ctx context.Context, burials []core.Burial) error {
	m := s.memory
	return s.run(ctx, "Bury", func() error {
		now := m.now()
		for _, burial := range burials {
			m.bury(burial, now)
		}
		m.commit()
		return nil
	}, func() { burials = slices.Clone(burials) })
}

func (m *Memory) bury(burial core.Burial, now time.Time) {
	i := m.outbox.find(burial.Ref)
	if i < 0 || m.outbox.rows[i].attempts != burial.Attempts-1 {
		return
	}
	row := *m.outbox.rows[i]
	row.attempts, row.cause, row.buried, row.retryAt = burial.Attempts, burial.Cause, now, time.Time{}
	m.removeRows(&m.outbox, []int{i})
	m.insertRows(&m.dead, []*memoryRow{&row}, false)
	if !burial.Skip && row.message.Key != "" {
		m.block(keyOf(&row.message), core.BlockedKey{
			Topic: row.message.Topic, Key: row.message.Key, Position: row.position, Since: now,
		})
	}
}

// Stats counts exactly: the lengths are known.
func (s *memorySession) Stats(ctx context.Context) (core.Stats, error) {
	m := s.memory
	var stats core.Stats
	err := s.run(ctx, "Stats", func() error {
		stats = core.Stats{
			Pending: core.Count{N: int64(len(m.outbox.rows)), Exact: true},
			Delayed: core.Count{N: int64(len(m.delayed.rows)), Exact: true},
			Dead:    core.Count{Exact: true},
		}
		for name := range m.blocked {
			if name.key != "" {
				stats.BlockedKeys++
			}
		}
		if len(m.outbox.rows) > 0 {
			stats.OldestAge = m.now().Sub(m.outbox.rows[0].created)
		}
		for _, row := range m.dead.rows {
			if row.droppedAt.IsZero() {
				stats.Dead.N++
			}
		}
		return nil
	}, nil)
	if err != nil {
		return core.Stats{}, err
	}
	return stats, nil
}
