package postgres_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// plan is a node of EXPLAIN's answer.
type plan struct {
	Node      string  `json:"Node Type"`
	Relation  string  `json:"Relation Name"`
	Index     string  `json:"Index Name"`
	Condition string  `json:"Index Cond"`
	Hit       int     `json:"Shared Hit Blocks"`
	Read      int     `json:"Shared Read Blocks"`
	Loops     float64 `json:"Actual Loops"`
	Plans     []plan  `json:"Plans"`
}

func (p plan) walk(visit func(plan)) {
	visit(p)
	for _, child := range p.Plans {
		child.walk(visit)
	}
}

// explain returns how a statement was executed, and in how many milliseconds.
func explain(t *testing.T, f conformance.DialectFixture, statement string) (plan, float64) {
	t.Helper()
	var text string
	if err := f.DB.QueryRowContext(t.Context(), statement).Scan(&text); err != nil {
		t.Fatal(err)
	}
	var answer []struct {
		Plan plan    `json:"Plan"`
		Time float64 `json:"Execution Time"`
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatal(err)
	}
	return answer[0].Plan, answer[0].Time
}

// What was delivered leaves dead rows before the tail, which nothing can remove while any transaction in the database
// is older. A poll must not read them, whatever the statistics say.
func TestFetchReadsByPositionWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	const dead, live = 30_000, 2_000
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	fill := func(n int) string {
		return fmt.Sprintf(`INSERT INTO outbox (topic, key, payload) SELECT 't', i::text, repeat('x', 100)::bytea FROM generate_series(1, %d) AS i`, n)
	}
	execute(t, f, `ALTER TABLE outbox SET (autovacuum_enabled = off)`, fill(dead))
	held, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT txid_current()`); err != nil {
		t.Fatal(err)
	}
	// The statistics of each step are of the one before.
	for _, step := range []struct {
		name       string
		statements []string
	}{
		{"never analysed", []string{fill(live)}},
		{"analysed when all were alive", []string{`ANALYZE outbox`}},
		{"analysed when it was empty", []string{`DELETE FROM outbox`, `VACUUM ANALYZE outbox`}},
		{"a new tail since then", []string{fill(live)}},
		{"analysed again", []string{`ANALYZE outbox`}},
	} {
		t.Run(step.name, func(t *testing.T) {
			execute(t, f, step.statements...)
			checkPlans(t, f)
		})
	}
}

// An outbox that was vacuumed while it was empty, and then has a backlog. Whatever the server thinks of the table, a call reads the
// rows that it is about, and not the backlog.
func TestCallsReadTheirOwnRowsWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	const backlog, own = 10_000, 100
	var refs []core.Ref
	var failures []core.Failure
	var burials []core.Burial
	for i := range int64(own) {
		ref := core.Ref{Position: backlog + 1 + i, ID: fmt.Sprint(backlog + 1 + i)}
		refs, failures = append(refs, ref), append(failures, core.Failure{Ref: ref, Attempts: 1, Cause: "c"})
		burials = append(burials, core.Burial{Ref: ref, Attempts: 1, Cause: "c"})
	}
	const events, delayed, dead, archive, received = "outbox", "outbox_delayed", "outbox_dead", "outbox_archive", "inbox"
	for name, tt := range map[string]struct {
		table string // which is looked at
		call  func(d *postgres.Dialect, s core.Session) error
	}{
		"Acknowledge": {events, func(_ *postgres.Dialect, s core.Session) error { return s.Acknowledge(t.Context(), refs) }},
		"Fail":        {events, func(_ *postgres.Dialect, s core.Session) error { return s.Fail(t.Context(), failures) }},
		"Bury":        {events, func(_ *postgres.Dialect, s core.Session) error { return s.Bury(t.Context(), burials) }},
		"Promote":     {delayed, func(_ *postgres.Dialect, s core.Session) error { return changed(s.Promote(t.Context(), 0, own)) }},
		"DropDead": {dead, func(_ *postgres.Dialect, s core.Session) error {
			return changed(s.DropDead(t.Context(), core.DeadFilter{}, "r", own))
		}},
		"RetryDead": {dead, func(_ *postgres.Dialect, s core.Session) error {
			return changed(s.RetryDead(t.Context(), core.DeadFilter{}, own))
		}},
		"Purge": {archive, func(_ *postgres.Dialect, s core.Session) error {
			return changed(s.(core.ArchiveStore).Purge(t.Context(), 0, own))
		}},
		"Purge dropped": {dead, func(_ *postgres.Dialect, s core.Session) error {
			return changed(s.(core.ArchiveStore).Purge(t.Context(), 0, own))
		}},
		"Forget": {received, func(d *postgres.Dialect, _ core.Session) error { return changed(d.Forget(t.Context(), 0, own)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, servers.PostgresSchema(t), postgres.Config{})
			d := f.Dialect.(*postgres.Dialect)
			if err := d.MigrateInbox(t.Context()); err != nil {
				t.Fatal(err)
			}
			fill := map[string]string{
				events:  `INSERT INTO outbox (id, topic, key, payload) SELECT last_value + CASE WHEN is_called THEN i ELSE i - 1 END, 't', i, '' FROM outbox_position_seq, generate_series(1, %d) AS i`,
				delayed: `INSERT INTO outbox_delayed (topic, payload, not_before) SELECT 't', '', now() FROM generate_series(1, %d)`,
				dead: `INSERT INTO outbox_dead (position, id, topic, key, headers, payload, created_at, attempts, cause, dropped_at)
SELECT i, i, 't', '', '{}', '', now(), 1, 'c', ` + map[bool]string{true: "now()", false: "NULL"}[name == "Purge dropped"] + ` FROM generate_series(1, %d) AS i`,
				archive: `INSERT INTO outbox_archive (position, id, topic, key, headers, payload, created_at, attempts)
SELECT i, i, 't', '', '{}', '', now(), 1 FROM generate_series(1, %d) AS i`,
				received: `INSERT INTO inbox (consumer, id) SELECT 'c', i FROM generate_series(1, %d) AS i`,
			}[tt.table]
			filled := fmt.Sprintf(fill, backlog)
			execute(t, f, `ALTER TABLE `+tt.table+` SET (autovacuum_enabled = off, vacuum_truncate = off)`, filled, `DELETE FROM `+tt.table, `VACUUM ANALYZE `+tt.table, filled)
			s := openSession(t, f)
			if err := tt.call(d, s); err != nil {
				t.Fatal(err)
			}
			s.Close() // what a connection counted is known when it has ended
			var done, read int
			eventually(t, "the rows are counted", func() (bool, error) {
				err := f.DB.QueryRowContext(t.Context(), `SELECT n_tup_upd + n_tup_del - $1, idx_tup_fetch + seq_tup_read - $1
FROM pg_stat_user_tables WHERE relid = $2::regclass`, backlog, tt.table).Scan(&done, &read)
				return done >= own, err
			})
			t.Logf("result: a call for %d rows read %d of %d", own, read, backlog)
			if read > 5*own {
				t.Errorf("a call for %d rows read %d of the %d that are there", own, read, backlog)
			}
		})
	}
}

// Whatever the server thinks of the table, a call goes through its list once, and not once for each row.
func TestCallsGoThroughTheirListsOnce(t *testing.T) {
	t.Parallel()
	const own = 1000
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	const filled = `INSERT INTO outbox (topic, key, payload) SELECT 't', i, '' FROM generate_series(1, 1000) AS i`
	execute(t, f, `ALTER TABLE outbox SET (autovacuum_enabled = off, vacuum_truncate = off)`, filled, `DELETE FROM outbox`, `VACUUM ANALYZE outbox`, filled)
	var failures []core.Failure
	var burials []core.Burial
	for _, r := range fetchAll(t, openSession(t, f)).Records {
		failures = append(failures, core.Failure{Ref: r.Ref(), Attempts: 1, Cause: "c"})
		burials = append(burials, core.Burial{Ref: r.Ref(), Attempts: 2, Cause: "c"})
	}
	for _, statement := range postgres.ExplainSettle(f.Dialect.(*postgres.Dialect), failures, burials) {
		root, ms := explain(t, f, statement)
		t.Logf("%.2f ms", ms)
		root.walk(func(p plan) {
			if p.Loops > 1 {
				t.Errorf("%s is done %.0f times", p.Node, p.Loops)
			}
		})
	}
	if dead := dialecttest.Count(t, f, `SELECT count(*) FROM outbox_dead`); dead != own {
		t.Errorf("%d were buried, want %d", dead, own)
	}
}

// A table of blocked keys that was vacuumed while it was empty, and then has more than a fetch hashes. Whatever the server thinks of
// it, a call looks up the keys that it is about, and does not read all of them for each.
func TestCallsLookBlockedKeysUpWhateverTheStatistics(t *testing.T) {
	t.Parallel()
	const blocked, own = 11_000, 200
	for name, tt := range map[string]struct {
		counted int // rows that it reads to count them, up to 10 001: each of a fetch's two statements does
		call    func(s core.Session) error
	}{
		"Fetch": {2 * 10_001, func(s core.Session) error {
			result, err := s.Fetch(t.Context(), core.FetchRequest{Limit: own, MaxBytes: 1 << 20})
			return changed(len(result.Records), err)
		}},
		"DropDead":  {0, func(s core.Session) error { return changed(s.DropDead(t.Context(), core.DeadFilter{}, "r", own)) }},
		"RetryDead": {0, func(s core.Session) error { return changed(s.RetryDead(t.Context(), core.DeadFilter{}, own)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := open(t, servers.PostgresSchema(t), postgres.Config{})
			fill := []string{
				fmt.Sprintf(`INSERT INTO outbox_blocked (topic, key, position) SELECT 't', i, 1000000 + i FROM generate_series(1, %d) AS i`, blocked),
				fmt.Sprintf(`INSERT INTO outbox_dead (position, id, topic, key, headers, payload, created_at, attempts, cause)
SELECT 1000000 + i, i, 't', i, '{}', '', now(), 1, 'c' FROM generate_series(1, %d) AS i`, blocked),
			}
			execute(t, f, `ALTER TABLE outbox_blocked SET (autovacuum_enabled = off)`, `ALTER TABLE outbox_dead SET (autovacuum_enabled = off)`)
			execute(t, f, fill...)
			execute(t, f, `DELETE FROM outbox_blocked`, `DELETE FROM outbox_dead`,
				`VACUUM (TRUNCATE off, ANALYZE) outbox_blocked`, `VACUUM (TRUNCATE off, ANALYZE) outbox_dead`)
			execute(t, f, fill...)
			execute(t, f, fmt.Sprintf(`INSERT INTO outbox (topic, key, payload) SELECT 't', i, '' FROM generate_series(1, %d) AS i`, own),
				fmt.Sprintf(`INSERT INTO outbox (topic, key, payload) SELECT 'free', i, '' FROM generate_series(1, %d) AS i`, own))
			s := openSession(t, f)
			if err := tt.call(s); err != nil {
				t.Fatal(err)
			}
			s.Close() // what a connection counted is known when it has ended
			var read int
			eventually(t, "the rows are counted", func() (bool, error) {
				// The deletion read each row once.
				err := f.DB.QueryRowContext(t.Context(), `SELECT idx_tup_fetch + seq_tup_read - $1
FROM pg_stat_user_tables WHERE relid = 'outbox_blocked'::regclass`, blocked).Scan(&read)
				return read >= tt.counted+own, err
			})
			t.Logf("result: a call for %d keys read %d rows of %d blocked keys", own, read, blocked)
			if read > tt.counted+4*own {
				t.Errorf("a call for %d keys read %d rows of %d blocked keys", own, read-tt.counted, blocked)
			}
		})
	}
}

// changed is the error of a call that is to change something.
func changed[T any](n T, err error) error {
	if err == nil && fmt.Sprint(n) == "0" {
		return errors.New("it found nothing to do")
	}
	return err
}

func checkPlans(t *testing.T, f conformance.DialectFixture) {
	t.Helper()
	var last, first int64
	err := f.DB.QueryRowContext(t.Context(), `SELECT last_value, coalesce((SELECT min(position) FROM outbox), last_value)
FROM outbox_position_seq`).Scan(&last, &first)
	if err != nil {
		t.Fatal(err)
	}
	var gaps []core.Range
	for i := range int64(300) {
		gaps = append(gaps, core.Range{First: 10 + i*90, Last: 10 + i*90 + i%3})
	}
	for _, request := range []core.FetchRequest{
		{After: max(first, last-2000) - 1, Limit: 500, MaxBytes: 8 << 20},
		{After: last, Limit: 500, MaxBytes: 8 << 20},
		{After: max(first, last-2000) - 1, Gaps: gaps, Limit: 500, MaxBytes: 8 << 20},
	} {
		for _, statement := range postgres.ExplainFetch(f.Dialect.(*postgres.Dialect), request) {
			checkPlan(t, f, request, statement)
		}
	}
}

func checkPlan(t *testing.T, f conformance.DialectFixture, request core.FetchRequest, statement string) {
	t.Helper()
	root, ms := explain(t, f, statement)
	scans := 0
	root.walk(func(p plan) {
		if p.Relation != "outbox" {
			return
		}
		scans++
		if p.Node != "Index Scan" || p.Index != "outbox_pkey" || !strings.Contains(p.Condition, "position") {
			t.Errorf("the outbox is read by %s (%s), want an index scan on the primary key", p.Node, p.Condition)
		}
	})
	pages := root.Hit + root.Read
	t.Logf("after %d, %d gaps: %d pages, %.2f ms", request.After, len(request.Gaps), pages, ms)
	// Each row needs its own page, two for its key among the blocked ones, and each range the way down the index.
	if limit := 4*request.Limit + 8*len(request.Gaps) + 50; scans == 0 || pages > limit {
		t.Errorf("after %d with %d gaps, %d scans read %d pages, want at most %d", request.After, len(request.Gaps), scans, pages, limit)
	}
}
