package mysql

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// countExactly is how many rows are counted one by one. It is part of core's promise.
const countExactly = 10_000

// count is two columns: the exact number up to one more than countExactly, and the server's estimate.
func (s *session) count(table, condition string) string {
	return s.sql(`(SELECT COUNT(*) FROM (SELECT 1 FROM {`+table+`}`+condition+` LIMIT `+integer(countExactly+1)+`) AS counted),
  COALESCE((SELECT MAX(table_rows) FROM information_schema.tables WHERE table_schema = `) + text(s.dialect.database) +
		` AND table_name = ` + text(s.dialect.table(table)) + `), 0)`
}

// Stats implements [core.Session].
func (s *session) Stats(ctx context.Context) (core.Stats, error) {
	var pending, delayed, dead [2]int64
	var span, oldest int64
	var stats core.Stats
	err := s.readRow(ctx, `SELECT `+s.count("outbox", "")+`, `+s.count("delayed", "")+`, `+
		s.count("dead", " WHERE dropped_at IS NULL")+s.sql(`,
  (SELECT COALESCE(MAX(position) - MIN(position) + 1, 0) FROM {outbox}),
  COALESCE((SELECT TIMESTAMPDIFF(MICROSECOND, created_at, UTC_TIMESTAMP(6)) FROM {outbox} ORDER BY position LIMIT 1), 0),
  (SELECT COUNT(DISTINCT topic, `+"`key`) FROM {blocked} WHERE `key`"+` <> '')`),
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
