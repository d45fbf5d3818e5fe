package postgres

import "github.com/lockstep-go/lockstep/core"

// ExplainFetch returns the statements that explain, as JSON, how the server executes a fetch, by each of its two
// statements. They are run in one transaction.
func ExplainFetch(d *Dialect, request core.FetchRequest) []string {
	s := &session{dialect: d}
	const explain = planOnlyByIndex + `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `
	return []string{explain + s.fetchSmall(request), explain + s.fetchAny(request)}
}
