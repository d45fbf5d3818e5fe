package sqlite

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// countExactly is how many rows are counted one by one. It is part of core's promise.
const countExactly = 10_000

// count is two columns: the exact number up to one more than countExactly, and the span of positions, which is at least
// the number of rows.
func count(table, condition string) string {
	return fmt.Sprintf(`(SELECT count(*) FROM (SELECT 1 FROM %s%s LIMIT %d)),
  (SELECT ifnull(max(position), 0) FROM %[1]s) - (SELECT ifnull(min(position), 0) FROM %[1]s) + 1`, table, condition, countExactly+1)
}

// Stats implements [core.Session].
func (s *session) Stats(ctx context.Context) (core.Stats, error) {
	var pending, delayed, dead [2]int64
	var oldest int64
	var stats core.Stats
	err := s.conn.QueryRowxContext(ctx, s.sql(`SELECT `+count("{outbox}", "")+`, `+count("{delayed}", "")+`, `+
		count("{dead}", " WHERE dropped_at IS NULL")+`,
  ifnull((SELECT {now} - created_at FROM {outbox} ORDER BY position LIMIT 1), 0),
  (SELECT count(*) FROM (SELECT DISTINCT topic, key FROM {blocked} WHERE key <> ''))`)).
		Scan(&pending[0], &pending[1], &delayed[0], &delayed[1], &dead[0], &dead[1], &oldest, &stats.BlockedKeys)
	if err != nil {
		return core.Stats{}, fmt.Errorf("count events: %w", err)
	}
	stats.Pending, stats.Delayed, stats.Dead = estimate(pending), estimate(delayed), estimate(dead)
	stats.OldestAge = max(0, time.Duration(oldest)*time.Millisecond)
	return stats, nil
}

func estimate(counted [2]int64) core.Count {
	if counted[0] <= countExactly {
		return core.Count{N: counted[0], Exact: true}
	}
	return core.Count{N: max(counted[0], counted[1])}
}
