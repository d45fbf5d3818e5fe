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
	"reads no gaps":      {asking(func(r *core.FetchRequest) { r.Gaps = nil }), []string{"fetch-requested", "fetch-limit", "fetch-snapshot"}},
	"reads all earlier":  {asking(func(r *core.FetchRequest) { r.After = 0; r.Gaps = nil }), []string{"fetch-requested"}},
	"reads half of gaps": {asking(func(r *core.FetchRequest) { r.Gaps = r.Gaps[:(len(r.Gaps)+1)/2] }), []string{"fetch-requested"}},
	"ignores the limit":  {asking(func(r *core.FetchRequest) { r.Limit = 1000 }), []string{"fetch-limit"}},
	"ignores MaxBytes":   {asking(func(r *core.FetchRequest) { r.MaxBytes = 1 << 30 }), []string{"fetch-max-bytes"}},
	"counts payloads only": {alteredDialect{enqueue: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		err := m.Enqueue(ctx, tx, msgs)
		for _, row := range tx.(*MemoryTx).rows {
			row.size = len(row.message.Payload)
		}
		return err
	}}, []string{"fetch-max-bytes"}},
	"never says More":         {telling(func(_ *Memory, r *core.FetchResult) { r.More = false }), []string{"fetch-limit", "fetch-max-bytes"}},
	"always says More":        {telling(func(_ *Memory, r *core.FetchResult) { r.More = true }), []string{"fetch-requested"}},
	"returns records upended": {telling(func(_ *Memory, r *core.FetchResult) { slices.Reverse(r.Records) }), []string{"fetch-requested"}},
	"hides what is not due":   {without(func(_ *Memory, r core.Record) bool { return r.RetryIn > 0 }), []string{"fetch-not-due"}},
	"hides a blocked topic": {without(func(m *Memory, r core.Record) bool {
		for key := range m.blocked {
			if key.topic == r.Message.Topic {
				return true
			}
		}
		return false
	}), []string{"fetch-blocked", "bury-blocks", "dead-limit"}},
	"hides a key in all topics": {without(func(m *Memory, r core.Record) bool {
		for key := range m.blocked {
			if key.key == r.Message.Key {
				return true
			}
		}
		return false
	}), []string{"fetch-blocked"}},
	"ignores blocked keys": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		kept := s.memory.blocked
		s.memory.blocked = nil
		defer func() { s.memory.blocked = kept }()
		return s.Fetch(ctx, r)
	}}}, []string{"fetch-blocked", "bury-blocks", "dead-retry-blocked"}},
	"is another server each time": {telling(func(_ *Memory, r *core.FetchResult) { r.Incarnation = core.NewID() }), []string{"fetch-incarnation"}},
	"has no generation": {telling(func(_ *Memory, r *core.FetchResult) { r.Generation = 0 }),
		[]string{"fetch-generation", "promote-generation", "dead-retry", "dead-drop", "unblock"}},
	"reads the generation first": {alteredDialect{session: altered{fetch: func(ctx context.Context, s *memorySession, r core.FetchRequest) (core.FetchResult, error) {
		first, err := s.Fetch(ctx, r)
		if err != nil {
			return first, err
		}
		time.Sleep(time.Millisecond) // the window of the race that this is about
		result, err := s.Fetch(ctx, r)
		result.Generation = first.Generation
		return result, err
	}}}, []string{"fetch-generation"}},
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
	}}}, []string{"fetch-snapshot"}},
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
	"calls every gap dead": {calling(func(*Memory, *core.Gap) bool { return true }), []string{"gaps-open", "gaps-filled"}},
	"calls no gap dead":    {calling(func(*Memory, *core.Gap) bool { return false }), []string{"gaps-dead", "gaps-open", "gaps-filled"}},
	"calls old gaps dead": {calling(func(_ *Memory, gap *core.Gap) bool {
		if gap.Witness == nil {
			gap.Witness = time.Now()
		}
		return time.Since(gap.Witness.(time.Time)) > 10*time.Millisecond
	}), []string{"gaps-open"}},
	"waits for every transaction": {calling(func(m *Memory, _ *core.Gap) bool { return len(m.open) == 0 }), []string{"gaps-later-transactions"}},
	"has one answer for all gaps of a call": {deciding(func(gaps []core.Gap, dead []bool) []bool {
		return slices.Repeat([]bool{slices.Contains(dead, true)}, len(dead))
	}), []string{"gaps-later-transactions"}},
	"answers for all gaps or for none": {deciding(func(gaps []core.Gap, dead []bool) []bool {
		return slices.Repeat([]bool{!slices.Contains(dead, false)}, len(dead))
	}), []string{"gaps-later-transactions"}},
	"has one witness for all gaps of a call": {alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		for i := range gaps {
			gaps[i].Witness = gaps[0].Witness
		}
		return s.ResolveGaps(ctx, gaps)
	}}}, []string{"gaps-later-transactions"}},
	"looks anew for all gaps of a call": {alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		if slices.ContainsFunc(gaps, func(gap core.Gap) bool { return gap.Witness == nil }) {
			for i := range gaps {
				gaps[i].Witness = nil
			}
		}
		return s.ResolveGaps(ctx, gaps)
	}}}, []string{"gaps-later-transactions"}},
	"changes gaps": {calling(func(_ *Memory, gap *core.Gap) bool { gap.First++; return true }), []string{"gaps-dead"}},
}

var sessionMutants = map[string]mutant{
	"miscounts": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.Dead.N = int64(len(s.memory.dead.rows))
		return stats, err
	}}}, []string{"stats"}},
	"knows no age": {alteredDialect{session: altered{stats: func(ctx context.Context, s *memorySession) (core.Stats, error) {
		stats, err := s.Stats(ctx)
		stats.OldestAge = 0
		return stats, err
	}}}, []string{"stats"}},
	"retries everything": {alteredDialect{retryable: func(error) bool { return true }}, []string{"retryable"}},
	"keeps a snapshot":   {alteredDialect{session: altered{fetch: keepingSnapshots()}}, []string{"session-holds-nothing"}},
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
	}, []string{"session-holds-nothing"}},
	"waits for writers": {alteredDialect{session: altered{acknowledge: func(ctx context.Context, s *memorySession, refs []core.Ref) error {
		err := eventually(ctx, "waiting", func() (bool, error) { return s.memory.Contents().Transactions == 0, nil })
		return firstError(err, s.Acknowledge(ctx, refs))
	}}}, []string{"session-waits-for-nobody"}},
	"loses itself among sessions": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		held := s.memory.Contents().Records
		time.Sleep(time.Millisecond) // the window of the race that this is about
		if !slices.Equal(ids(held), ids(s.memory.Contents().Records)) {
			return ErrDeadlock
		}
		return s.Bury(ctx, burials)
	}}}, []string{"sessions-at-once"}},

	"locks no keys": {alteredDialect{lockKeys: func(context.Context, *Memory, core.Execer, []core.Message) error { return nil }}, []string{"lock-keys"}},
	"locks the empty key": {alteredDialect{lockKeys: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for i := range msgs {
			msgs[i].Key += "."
		}
		return m.LockKeys(ctx, tx, msgs)
	}}, []string{"lock-keys"}},
	"locks in argument order": {alteredDialect{lockKeys: func(ctx context.Context, m *Memory, tx core.Execer, msgs []core.Message) error {
		for _, msg := range msgs {
			if err := m.LockKeys(ctx, tx, []core.Message{msg}); err != nil {
				return err
			}
			time.Sleep(time.Millisecond) // the window of the race that this is about
		}
		return nil
	}}, []string{"lock-keys-order"}},
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
