package postgres

import (
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ExplainFetch returns the statements that explain, as JSON, how the server executes a fetch, by each of its statements.
// They are run in one transaction.
func ExplainFetch(d *Dialect, request core.FetchRequest) (statements []string) {
	const explain = planOnlyByIndex + `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `
	for made := noneBlocked; made <= manyBlocked; made++ {
		s := &session{dialect: d, blocking: made}
		statements = append(statements, explain+s.fetchSmall(request), explain+s.fetchAny(request))
	}
	return statements
}

// ExplainSettle returns the statements that explain, as JSON, how the server notes failures and buries. They do so.
func ExplainSettle(d *Dialect, failures []core.Failure, burials []core.Burial) (statements []string) {
	const explain = planByList + `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `
	s := &session{dialect: d}
	return []string{explain + s.failing(failures), explain + s.burying(burials)}
}

// WithMigration adds a step to the migrations that d knows.
func WithMigration(d *Dialect, step string) *Dialect {
	d.migrations = append(slices.Clone(d.migrations), step)
	return d
}

// Columns returns the columns that this package knows, by table.
func Columns() map[string]string {
	columns := map[string]string{}
	for _, t := range tables {
		columns[t.name] = t.columns
	}
	return columns
}

// Supported is the check of the server's name and version, for those that no server here has.
var Supported = supported

// SetListenPing sets after how long a quiet connection is asked whether it is still there, and for how long, until
// restore is called. No Listen may be under way.
func SetListenPing(after, limit time.Duration) (restore func()) {
	before, timeout := listenPing, wakeTimeout
	listenPing, wakeTimeout = after, limit
	return func() { listenPing, wakeTimeout = before, timeout }
}
