package postgres

import "github.com/lockstep-go/lockstep/core"

// ExplainFetch returns the statements that explain, as JSON, how the server executes a fetch. They are run in one
// transaction.
func ExplainFetch(d *Dialect, request core.FetchRequest) string {
	s := &session{dialect: d}
	return planOnlyByIndex + `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ` + s.fetch(request)
}
