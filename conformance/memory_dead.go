package conformance

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

func (r *memoryRow) matches(f *core.DeadFilter, now time.Time) bool {
	return !r.droppedAt.IsZero() == f.Dropped &&
		(f.ID == "" || f.ID == r.message.ID) &&
		(f.Topic == "" || f.Topic == r.message.Topic) &&
		(f.Key == "" || f.Key == r.message.Key) &&
		(f.CauseContains == "" || strings.Contains(r.cause, f.CauseContains)) &&
		(f.OlderThan <= 0 || now.Sub(r.buried) >= f.OlderThan)
}

func (s *memorySession) ListDead(ctx context.Context, filter core.DeadFilter, after core.Ref, limit int) ([]core.DeadLetter, error) {
	var letters []core.DeadLetter
	err := s.run(ctx, "ListDead", func() error {
		m := s.memory
		now := m.now()
		for _, row := range m.dead.rows[m.dead.from(after.Position):] {
			if len(letters) >= limit {
				break
			}
			if row.matches(&filter, now) && compareRefs(row.ref(), after) > 0 {
				letters = append(letters, row.deadLetter(now))
			}
		}
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return letters, nil
}

func (s *memorySession) CountDead(ctx context.Context, filter core.DeadFilter) (int64, error) {
	count := int64(0)
	err := s.run(ctx, "CountDead", func() error {
		m := s.memory
		now := m.now()
		for _, row := range m.dead.rows {
			if row.matches(&filter, now) {
				count++
			}
		}
		return nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return count, nil
}

// changeDead runs change with the indices of the first limit dead letters that match filter and may be changed, in one transaction.
// change returns how many it changed.
func (s *memorySession) changeDead(ctx context.Context, op string, filter core.DeadFilter, limit int, may func(*memoryRow) bool, change func(indices []int) int) (int, error) {
	if filter.Dropped { // what was dropped stays so
		return 0, nil
	}
	changed := 0
	err := s.run(ctx, op, func() error {
		m := s.memory
		now := m.now()
		var indices []int
		for i, row := range m.dead.rows {
			if len(indices) >= limit {
				break
			}
			if row.matches(&filter, now) && may(row) {
				indices = append(indices, i)
			}
		}
		if changed = change(indices); changed > 0 {
			m.generation++
			m.commit()
		}
		return nil
	}, nil)
	if err != nil {
		return 0, err
	}
	return changed, nil
}

func (s *memorySession) RetryDead(ctx context.Context, filter core.DeadFilter, limit int) (int, error) {
	m := s.memory
	free := func(row *memoryRow) bool { return !m.outbox.has(row.position) } // or that is another event, of a time before a restore
	return s.changeDead(ctx, "RetryDead", filter, limit, free, func(indices []int) int {
		var rows []*memoryRow
		var back []int
		for _, i := range indices {
			row := *m.dead.rows[i]
			if len(rows) > 0 && rows[len(rows)-1].position == row.position {
				continue // its twin
			}
			m.unblock(&row)
			row.attempts, row.cause, row.buried = 0, "", time.Time{}
			rows, back = append(rows, &row), append(back, i)
		}
		m.removeRows(&m.dead, back)
		m.insertRows(&m.outbox, rows, false)
		return len(rows)
	})
}

func (s *memorySession) DropDead(ctx context.Context, filter core.DeadFilter, reason string, limit int) (int, error) {
	m := s.memory
	every := func(*memoryRow) bool { return true }
	return s.changeDead(ctx, "DropDead", filter, limit, every, func(indices []int) int {
		for _, i := range indices {
			row := *m.dead.rows[i]
			row.droppedAt, row.dropReason = m.now(), reason
			m.replaceRow(&m.dead, i, &row)
			if !m.twinWaits(&row) {
				m.unblock(&row)
			}
		}
		return len(indices)
	})
}

func (s *memorySession) Unblock(ctx context.Context, topic, key string) (bool, error) {
	blocked := false
	err := s.run(ctx, "Unblock", func() error {
		m := s.memory
		if _, blocked = m.blocked[topicKey{topic, key}]; blocked && key != "" {
			m.setBlocked(topicKey{topic, key}, nil)
			m.generation++
			m.commit()
		}
		return nil
	}, nil)
	if err != nil {
		return false, err
	}
	return blocked && key != "", nil
}

func (s *memorySession) ListBlocked(ctx context.Context, afterTopic, afterKey string, limit int) ([]core.BlockedKey, error) {
	var keys []core.BlockedKey
	err := s.run(ctx, "ListBlocked", func() error {
		keys = s.memory.blockedAfter(topicKey{afterTopic, afterKey}, limit)
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// block adds a burial to those that block key. Several can: a relay that was overtaken may bury late.
func (m *Memory) block(key topicKey, burial core.BlockedKey) {
	blockers := append(slices.Clone(m.blocked[key]), burial)
	slices.SortFunc(blockers, func(a, b core.BlockedKey) int { return cmp.Compare(a.Position, b.Position) })
	m.setBlocked(key, blockers)
}

// unblock takes the dead letter's burial away from those that block its key, which goes on when none is left.
func (m *Memory) unblock(letter *memoryRow) {
	key := keyOf(&letter.message)
	before := m.blocked[key]
	left := make([]core.BlockedKey, 0, len(before))
	for _, b := range before {
		if b.Position != letter.position {
			left = append(left, b)
		}
	}
	if len(left) < len(before) {
		m.setBlocked(key, left)
	}
}

// twinWaits reports whether a dead letter of the same position, topic and key, one from before a restore or after it, was not dropped.
func (m *Memory) twinWaits(letter *memoryRow) bool {
	for _, row := range m.dead.rows[m.dead.from(letter.position):] {
		if row.position != letter.position {
			break
		}
		if row.droppedAt.IsZero() && keyOf(&row.message) == keyOf(&letter.message) {
			return true
		}
	}
	return false
}

// blockedAfter returns the blocked keys behind after, bytewise, each with the first burial that blocks it.
func (m *Memory) blockedAfter(after topicKey, limit int) []core.BlockedKey {
	var keys []core.BlockedKey
	for key, blockers := range m.blocked {
		if compareKeys(key, after) > 0 {
			keys = append(keys, blockers[0])
		}
	}
	slices.SortFunc(keys, func(a, b core.BlockedKey) int {
		return compareKeys(topicKey{a.Topic, a.Key}, topicKey{b.Topic, b.Key})
	})
	return keys[:min(limit, len(keys))]
}

func (s *memorySession) PauseTopic(ctx context.Context, topic string) (bool, error) {
	return s.setPaused(ctx, "PauseTopic", topic, true)
}

func (s *memorySession) ResumeTopic(ctx context.Context, topic string) (bool, error) {
	return s.setPaused(ctx, "ResumeTopic", topic, false)
}

// setPaused makes a block with an empty key of the topic's pause: every other block has a key.
func (s *memorySession) setPaused(ctx context.Context, op, topic string, pause bool) (changed bool, err error) {
	err = s.run(ctx, op, func() error {
		m := s.memory
		name := topicKey{topic: topic}
		if _, paused := m.blocked[name]; paused == pause {
			return nil
		}
		if pause {
			m.setBlocked(name, []core.BlockedKey{{Topic: topic, Since: m.now()}})
		} else {
			m.setBlocked(name, nil)
		}
		m.generation++
		m.commit()
		changed = true
		return nil
	}, nil)
	if err != nil {
		return false, err
	}
	return changed, nil
}
