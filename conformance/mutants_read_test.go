package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// asking alters what is fetched.
func asking(change func(r *core.FetchRequest)) alteredDialect {
	return alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		change(&r)
		return s.Fetch(ctx, r)
	}}}
}

// telling alters what a fetch returned.
func telling(change func(m *Memory, r *core.FetchResult)) alteredDialect {
	return alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		result, err := s.Fetch(ctx, r)
		change(s.memory, &result)
		return result, err
	}}}
}

// without leaves records out.
func without(drop func(m *Memory, r core.Record) bool) alteredDialect {
	return telling(func(m *Memory, result *core.FetchResult) {
		result.Records = slices.DeleteFunc(result.Records, func(r core.Record) bool { return drop(m, r) })
	})
}

var fetchMutants = map[string]mutant{
	"reads no gaps": {asking(func(r *core.FetchRequest) { r.Gaps = nil }),
		caught{
			"fetch-requested": `a fetch after 6 with the gaps [{1 1} {3 4}] returned ["g" "h"], want ["a" "c" "d" "g" "h"]`,
			"fetch-limit":     `a fetch of {After:2 Gaps:[{First:2 Last:2}] Limit:1 MaxBytes:1048576} returned ["c"], want ["b"]`,
			"fetch-snapshot":  "one transaction's record in a gap is fetched: false, and its record in the tail: true"},
	},
	"reads all earlier": {asking(func(r *core.FetchRequest) { r.After = 0; r.Gaps = nil }),
		caught{"fetch-requested": `a fetch after 6 with the gaps [] returned ["a" "b" "c" "d" "e" "f" "g" "h"], want ["g" "h"]`}},
	"reads half of gaps": {asking(func(r *core.FetchRequest) { r.Gaps = r.Gaps[:(len(r.Gaps)+1)/2] }),
		caught{"fetch-requested": `a fetch after 6 with the gaps [{1 1} {3 4}] returned ["a" "g" "h"], want ["a" "c" "d" "g" "h"]`}},
	"ignores the limit": {asking(func(r *core.FetchRequest) { r.Limit = 1000 }),
		caught{"fetch-limit": `a fetch of {After:0 Gaps:[] Limit:2 MaxBytes:1048576} returned ["a" "b" "c" "d" "e"], want ["a" "b"]`}},
	"ignores MaxBytes": {asking(func(r *core.FetchRequest) { r.MaxBytes = 1 << 30 }),
		caught{"fetch-max-bytes": `a fetch of messages of 1000 bytes with MaxBytes 500 returned ["a" "b" "c" "d" "e" "f" "g" "h"],`}},
	"counts payloads only": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		err := m.Enqueue(ctx, tx, msgs)
		for _, row := range tx.(*MemoryTx).rows {
			row.size = len(row.message.Payload)
		}
		return err
	}}, caught{"fetch-max-bytes": `a fetch of messages of 1000 bytes with MaxBytes 1500 returned ["e" "f" "g" "h"], want ["e" "f"]`}},
	"never says More": {telling(func(_ *Memory, r *core.FetchResult) { r.More = false }),
		caught{
			"fetch-limit":     "a fetch of {After:0 Gaps:[] Limit:2 MaxBytes:1048576} does not report More",
			"fetch-max-bytes": "a fetch that MaxBytes ended does not report More"},
	},
	"always says More": {telling(func(_ *Memory, r *core.FetchResult) { r.More = true }),
		caught{"fetch-requested": "a fetch of 8 records with the limit 100 reports More"}},
	"returns records upended": {telling(func(_ *Memory, r *core.FetchResult) { slices.Reverse(r.Records) }),
		caught{"fetch-requested": `a fetch after 0 with the gaps [] returned ["h" "g" "f" "e" "d" "c" "b" "a"], want ["a" "b" "c" "d"`}},
	"hides what is not due": {without(func(_ *Memory, r core.Record) bool { return r.RetryIn > 0 }),
		caught{"fetch-not-due": `the outbox holds ["b"], want ["a" "b"]`}},
	"hides a blocked topic": {without(func(m *Memory, r core.Record) bool {
		for key := range m.blocked {
			if key.topic == r.Message.Topic {
				return true
			}
		}
		return false
	}),
		caught{
			"fetch-blocked": `the outbox holds ["other topic"], want ["other key" "no key" "other topic" "upper case" "with a`,
			"bury-blocks":   `the outbox holds [], want ["d" "e"]`,
			"dead-limit":    `the outbox holds [], want ["a" "b"]`},
	},
	"hides a key in all topics": {without(func(m *Memory, r core.Record) bool {
		for key := range m.blocked {
			if key.key == r.Message.Key {
				return true
			}
		}
		return false
	}), caught{"fetch-blocked": `the outbox holds ["other key" "no key" "upper case" "with a space"], want ["other key" "no key"`}},
	"ignores blocked keys": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		kept := s.memory.blocked
		s.memory.blocked = nil
		defer func() { s.memory.blocked = kept }()
		return s.Fetch(ctx, r)
	}}},
		caught{
			"fetch-blocked":      `the outbox holds ["behind it" "other key" "no key" "other topic" "upper case" "with a space"`,
			"bury-blocks":        `the outbox holds ["d" "e" "f"], want ["d" "e"]`,
			"dead-retry-blocked": `the outbox holds ["a" "c"], want []`},
	},
	"is another server each time": {telling(func(_ *Memory, r *core.FetchResult) { r.Incarnation = core.NewID() }),
		caught{"fetch-incarnation": "the server went on, and its incarnation changed from"}},
	"has no generation": {telling(func(_ *Memory, r *core.FetchResult) { r.Generation = 0 }),
		caught{
			"fetch-generation":   "RetryDead of a message with a key: in the generation",
			"promote-generation": "after a promotion the generation still is 0",
			"dead-retry":         "after RetryDead the generation still is 0",
			"dead-drop":          "after DropDead the generation still is 0",
			"unblock":            "after Unblock the generation still is 0"},
	},
	"reads the generation first": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		first, err := s.Fetch(ctx, r)
		if err != nil {
			return first, err
		}
		time.Sleep(time.Millisecond) // the window of the race that this is about
		result, err := s.Fetch(ctx, r)
		result.Generation = first.Generation
		return result, err
	}}}, caught{"fetch-generation": "RetryDead of a message with a key: in the generation"}},
	"reads tail and gaps apart": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		gaps, tail := r, r
		tail.Gaps = nil
		gaps.After = 1 << 40
		first, err := s.Fetch(ctx, gaps)
		if err != nil {
			return first, err
		}
		time.Sleep(time.Millisecond) // the window of the race that this is about
		result, err := s.Fetch(ctx, tail)
		result.Records = append(first.Records, result.Records...)
		return result, err
	}}}, caught{"fetch-snapshot": "one transaction's record in a gap is fetched: false, and its record in the tail: true"}},
}

// calling alters which gaps are called dead.
func calling(dead func(m *Memory, gap *core.Gap) bool) alteredDialect {
	return alteredDialect{session: altered{resolve: func(_ context.Context, s *memorySession, gaps []core.Gap) error {
		for i := range gaps {
			gaps[i].Dead = dead(s.memory, &gaps[i])
		}
		return nil
	}}}
}

// deciding alters which gaps of a call are called dead.
func deciding(change func(gaps []core.Gap, dead []bool) []bool) alteredDialect {
	return alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		if err := s.ResolveGaps(ctx, gaps); err != nil {
			return err
		}
		dead := make([]bool, len(gaps))
		for i := range gaps {
			dead[i] = gaps[i].Dead
		}
		for i, answer := range change(gaps, dead) {
			gaps[i].Dead = answer
		}
		return nil
	}}}
}

var gapMutants = map[string]mutant{
	"calls every gap dead": {calling(func(*Memory, *core.Gap) bool { return true }),
		caught{
			"gaps-open":   "the gap {First:2 Last:2} is called dead, and the transaction that took its position is open",
			"gaps-filled": "is dead, and a later fetch does not see the record that filled it"},
	},
	"calls no gap dead": {calling(func(*Memory, *core.Gap) bool { return false }),
		caught{
			"gaps-dead":   "a gap that nobody can fill does not become dead: not within 20s",
			"gaps-open":   "a gap that nobody can fill does not become dead: not within 20s",
			"gaps-filled": "a gap that was filled does not become dead: not within 20s"},
	},
	"calls old gaps dead": {calling(func(_ *Memory, gap *core.Gap) bool {
		if gap.Witness == nil {
			gap.Witness = time.Now()
		}
		return time.Since(gap.Witness.(time.Time)) > 10*time.Millisecond
	}), caught{"gaps-open": "the gap {First:2 Last:2} is called dead, and the transaction that took its position is open"}},
	"waits for every transaction": {calling(func(m *Memory, _ *core.Gap) bool { return len(m.open) == 0 }),
		caught{"gaps-later-transactions": "a gap that nobody can fill does not become dead beside one whose transaction is open: not within 20s"}},
	"has one answer for all gaps of a call": {deciding(func(gaps []core.Gap, dead []bool) []bool {
		return slices.Repeat([]bool{slices.Contains(dead, true)}, len(dead))
	}), caught{"gaps-later-transactions": "the gap {First:5 Last:5} is called dead beside"}},
	"answers for all gaps or for none": {deciding(func(gaps []core.Gap, dead []bool) []bool {
		return slices.Repeat([]bool{!slices.Contains(dead, false)}, len(dead))
	}), caught{"gaps-later-transactions": "a gap that nobody can fill does not become dead beside one whose transaction is open: not within 20s"}},
	"has one witness for all gaps of a call": {alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		for i := range gaps {
			gaps[i].Witness = gaps[0].Witness
		}
		return s.ResolveGaps(ctx, gaps)
	}}}, caught{"gaps-later-transactions": "the gap {First:5 Last:5} is called dead beside"}},
	"looks anew for all gaps of a call": {alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		if slices.ContainsFunc(gaps, func(gap core.Gap) bool { return gap.Witness == nil }) {
			for i := range gaps {
				gaps[i].Witness = nil
			}
		}
		return s.ResolveGaps(ctx, gaps)
	}}}, caught{"gaps-later-transactions": "a gap that nobody can fill does not become dead beside one whose transaction is open: not within 20s"}},
	"changes gaps": {calling(func(_ *Memory, gap *core.Gap) bool { gap.First++; return true }),
		caught{"gaps-dead": "the gap from 3 to 4 was changed to {Range:{First:4 Last:4} Witness:<nil> Dead:true}"}},
}

var sessionMutants = map[string]mutant{
	"miscounts": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.Dead.N = int64(len(s.memory.dead.rows))
		return stats, err
	}}}, caught{"stats": "the stats are {Pending:{N:3 Exact:true} OldestAge:0s Delayed:{N:1 Exact:true} Dead:{N:3 Exact:true}"}},
	"knows no age": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.OldestAge = 0
		return stats, err
	}}}, caught{"stats": "the oldest event does not get older than 50 ms: not within 20s"}},
	"retries everything": {alteredDialect{retryable: func(error) bool { return true }}, caught{"retryable": "Retryable(<nil>) is true"}},
	"keeps a snapshot": {alteredDialect{session: altered{fetch: keepingSnapshots()}},
		caught{"session-holds-nothing": "after Fetch, the session does not see what was committed since"}},
	"keeps a lock": {alteredDialect{
		session: altered{renew: func(ctx context.Context, s *memorySession, holder string, epoch int64, ttl time.Duration, progress bool) (bool, error) {
			tx, _ := s.memory.Begin(ctx)
			tx.LockRow(ctx, "the table")
			return s.RenewLease(ctx, holder, epoch, ttl, progress)
		}},
		enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
			if err := tx.(*MemoryTx).LockRow(ctx, "the table"); err != nil {
				return err
			}
			return m.Enqueue(ctx, tx, msgs)
		},
	}, caught{"session-holds-nothing": "after RenewLease, an application cannot enqueue: enqueue: memory: LockRow: context deadline exceeded"}},
	"waits for writers": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		err := eventually(ctx, "waiting", func() (bool, error) { return s.memory.Contents().Transactions == 0, nil })
		return firstError(err, s.Acknowledge(ctx, refs))
	}}}, caught{"session-waits-for-nobody": "Acknowledge: waiting: context deadline exceeded"}},
	"loses itself among sessions": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		held := s.memory.Contents().Records
		time.Sleep(time.Millisecond) // the window of the race that this is about
		if !slices.Equal(ids(held), ids(s.memory.Contents().Records)) {
			return ErrDeadlock
		}
		return s.Bury(ctx, burials)
	}}}, caught{"sessions-at-once": "deadlock: the transaction was rolled back"}},

	"locks no keys": {alteredDialect{lockKeys: func(context.Context, *Memory, core.Execer, []core.Message) error { return nil }},
		caught{"lock-keys": "a second transaction locked the key while the first was open (<nil>)"}},
	"locks the empty key": {alteredDialect{lockKeys: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for i := range msgs {
			msgs[i].Key += "."
		}
		return m.LockKeys(ctx, tx, msgs)
	}}, caught{"lock-keys": "a transaction that locks nothing of the others' waits: memory: LockKeys: context deadline exceeded"}},
	"locks in argument order": {alteredDialect{lockKeys: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for _, msg := range msgs {
			if err := m.LockKeys(ctx, tx, []core.Message{msg}); err != nil {
				return err
			}
			time.Sleep(time.Millisecond) // the window of the race that this is about
		}
		return nil
	}}, caught{"lock-keys-order": "memory: LockKeys: deadlock: the transaction was rolled back"}},
}

// keepingSnapshots returns a fetch that answers a repeated request from what it saw first.
func keepingSnapshots() func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
	seen := map[*memorySession]core.FetchResult{}
	return func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		if result, ok := seen[s]; ok {
			return result, nil
		}
		result, err := s.Fetch(ctx, r)
		seen[s] = result
		return result, err
	}
}
