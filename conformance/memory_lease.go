package conformance

import (
	"context"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// memoryLease is the lease row.
type memoryLease struct {
	holder          string
	epoch, renewals int64
	expires         time.Time
	unclean         int
	suspect         core.Ref
}

func (m *Memory) leaseAt(now time.Time) core.Lease {
	return core.Lease{
		Outbox:   m.config.Outbox,
		Holder:   m.lease.holder,
		Epoch:    m.lease.epoch,
		Renewals: m.lease.renewals,
		Expired:  m.lease.holder == "" || !m.lease.expires.After(now),
		Unclean:  m.lease.unclean,
		Suspect:  m.lease.suspect,
	}
}

func (s *memorySession) ReadLease(ctx context.Context) (core.Lease, error) {
	var lease core.Lease
	err := s.run(ctx, "ReadLease", func() error {
		lease = s.memory.leaseAt(s.memory.now())
		return nil
	}, nil)
	if err != nil {
		return core.Lease{}, err
	}
	return lease, nil
}

// changeLease runs change on the lease row, and reports what it reported.
func (s *memorySession) changeLease(ctx context.Context, op string, change func(lease *memoryLease, now time.Time) bool) (bool, error) {
	changed := false
	err := s.run(ctx, op, func() error {
		m := s.memory
		changed = change(&m.lease, m.now())
		m.commit()
		return nil
	}, nil)
	if err != nil {
		return false, err
	}
	return changed, nil
}

func (s *memorySession) TakeLease(ctx context.Context, seen core.Lease, holder string, ttl time.Duration) (bool, error) {
	return s.changeLease(ctx, "TakeLease", func(l *memoryLease, now time.Time) bool {
		if l.epoch != seen.Epoch || l.holder != seen.Holder || l.renewals != seen.Renewals {
			return false
		}
		if l.holder != "" {
			l.unclean++
		}
		l.holder, l.expires = holder, now.Add(ttl)
		l.epoch++
		l.renewals++
		return true
	})
}

func (s *memorySession) RenewLease(ctx context.Context, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
	return s.changeLease(ctx, "RenewLease", func(l *memoryLease, now time.Time) bool {
		if l.holder != holder || l.epoch != epoch {
			return false
		}
		l.renewals++
		l.expires = now.Add(ttl)
		if progress {
			l.unclean = 0
		}
		return true
	})
}

func (s *memorySession) ReleaseLease(ctx context.Context, holder string, epoch int64) error {
	_, err := s.changeLease(ctx, "ReleaseLease", func(l *memoryLease, _ time.Time) bool {
		if l.holder != holder || l.epoch != epoch {
			return false
		}
		l.holder, l.expires, l.unclean = "", time.Time{}, 0
		return true
	})
	return err
}

func (s *memorySession) MarkSuspect(ctx context.Context, holder string, epoch int64, suspect core.Ref) (bool, error) {
	return s.changeLease(ctx, "MarkSuspect", func(l *memoryLease, _ time.Time) bool {
		if l.holder != holder || l.epoch != epoch {
			return false
		}
		l.suspect = suspect
		return true
	})
}

// dueMicros is when a delayed event is due in the unit of the table, rounded up, so that none is early.
func dueMicros(due time.Time) int64 {
	micros := due.UnixMicro()
	if due.After(time.UnixMicro(micros)) {
		micros++
	}
	return micros
}

func (s *memorySession) Promote(ctx context.Context, epoch int64, limit int) (core.Promotion, error) {
	var promotion core.Promotion
	err := s.run(ctx, "Promote", func() error {
		promotion = s.memory.promote(epoch, limit)
		return nil
	}, nil)
	if err != nil {
		return core.Promotion{}, err
	}
	return promotion, nil
}

func (m *Memory) promote(epoch int64, limit int) core.Promotion {
	if m.lease.epoch != epoch {
		return core.Promotion{Fenced: true}
	}
	now := m.now().UnixMicro()
	var due []int
	var rows []*memoryRow
	for i, row := range m.delayed.rows[:min(limit, len(m.delayed.rows))] {
		if row.due > now {
			break
		}
		moved := *row
		moved.created, moved.due, moved.message.NotBefore = time.UnixMicro(row.due).UTC(), 0, time.Time{}
		moved.position = m.next
		m.next++
		due, rows = append(due, i), append(rows, &moved)
	}
	if len(rows) == 0 {
		return core.Promotion{}
	}
	m.removeRows(&m.delayed, due)
	m.insertRows(&m.outbox, rows, false)
	m.generation++
	m.commit()
	return core.Promotion{Moved: len(rows)}
}
