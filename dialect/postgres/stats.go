package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// countExactly is how many rows are counted one by one. It is part of core's promise.
const countExactly = 10_000

// count is two columns: the exact number up to one more than countExactly, and an estimate as the planner makes it, from
// the rows per page at the last vacuum and the pages that there are now, of the table or of an index on those rows.
func (s *session) count(rows, relation string) string {
	limit := integer(countExactly + 1)
	return s.sql(`(SELECT count(*) FROM (SELECT FROM `+rows+` LIMIT `+limit+`) AS counted),
  (SELECT CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples / relpages * pg_relation_size(oid) / current_setting('block_size')::integer
    ELSE 0 END::bigint FROM pg_class WHERE oid = `) + text(s.sql(relation)) + `::regclass)`
}

// Stats implements [core.Session].
func (s *session) Stats(ctx context.Context) (core.Stats, error) {
	var pending, delayed, dead [2]int64
	var span, oldest int64
	var stats core.Stats
	err := s.queryRow(ctx, `SET LOCAL jit = off; SELECT `+s.count("{outbox}", "{outbox}")+`, `+s.count("{delayed}", "{delayed}")+`, `+
		s.count("{dead} WHERE dropped_at IS NULL", "{index dead_waiting}")+s.sql(`,
  (SELECT coalesce(max(position) - min(position) + 1, 0) FROM {outbox}),
  coalesce((SELECT (date_part('epoch', now() - created_at) * 1e6)::bigint FROM {outbox} ORDER BY position LIMIT 1), 0),
  (SELECT count(*) FROM (SELECT DISTINCT topic, key FROM {blocked} WHERE key <> '') AS keys)`),
		&pending[0], &pending[1], &delayed[0], &delayed[1], &dead[0], &dead[1], &span, &oldest, &stats.BlockedKeys)
	if err != nil {
		return core.Stats{}, fmt.Errorf("count events: %w", err)
	}
	// No two events share a position, which bounds an estimate of another time.
	stats.Pending = estimate(pending[0], min(pending[1], span))
	stats.Delayed, stats.Dead = estimate(delayed[0], delayed[1]), estimate(dead[0], dead[1])
	stats.OldestAge = max(0, time.Duration(oldest)*time.Microsecond)
	return stats, nil
}

func estimate(counted, guess int64) core.Count {
	if counted <= countExactly {
		return core.Count{N: counted, Exact: true}
	}
	return core.Count{N: max(counted, guess)}
}
