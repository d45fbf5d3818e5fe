package sqlite_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/dose"
)

// steps is how SQLite goes about a statement.
func steps(t *testing.T, d *sqlite.Dialect, statement string, args ...any) []string {
	t.Helper()
	return query(t, d.DB(), `EXPLAIN QUERY PLAN `+statement, args...)
}

// No part of a fetch reads the whole table, nor any other one than it needs.
func TestFetchReadsByPosition(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	got := steps(t, d, sqlite.FetchStatement(d), "[[1,2],[5,9]]", 10, 20, 10)
	searches, sorts := 0, 0
	for _, step := range got {
		switch {
		case strings.Contains(step, "SEARCH o USING INTEGER PRIMARY KEY (rowid>"):
			searches++
		case strings.HasPrefix(step, "SEARCH b USING PRIMARY KEY (topic=? AND key=?)"),
			strings.HasPrefix(step, "SCAN main.outbox_control"), strings.HasPrefix(step, "SCAN r VIRTUAL TABLE"):
		case strings.HasPrefix(step, "SCAN (subquery"), strings.HasPrefix(step, "SCAN CONSTANT"): // the parts, put together
		case step == "USE TEMP B-TREE FOR ORDER BY":
			sorts++ // the gaps' few rows; the tail comes in order
		case strings.HasPrefix(step, "SCAN"), strings.HasPrefix(step, "SEARCH"), strings.Contains(step, "TEMP B-TREE"):
			t.Errorf("a fetch also does: %s", step)
		}
	}
	if searches != 2 || sorts > 1 {
		t.Errorf("the outbox is searched by position %d times and sorted %d times, want 2 and at most 1:\n%s",
			searches, sorts, strings.Join(got, "\n"))
	}
}

func TestPurgeReadsByAge(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	for index, statement := range sqlite.PurgeStatements(d) {
		got := strings.Join(steps(t, d, statement, 1000, 10), "\n")
		if !strings.Contains(got, "USING COVERING INDEX "+index+" (") || strings.Contains(got, "TEMP B-TREE") {
			t.Errorf("a purge does not go by %s:\n%s", index, got)
		}
	}
}

// What was delivered and kept costs the relay nothing: neither time nor pages.
func TestPollsDoNotSeeTheHistory(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{Archive: []string{"*"}})
	enqueued(t, d, core.Message{ID: "a", Topic: "t"})
	before := pollTime(t, d)
	rows := dose.Of(t, 10_000, 1_000_000)
	_, err := d.DB().ExecContext(t.Context(), `WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n WHERE i < 999 + ?)
INSERT INTO outbox_archive (position, id, topic, key, headers, payload, created_at, attempts, delivered_at)
SELECT i, i, 't', i, '{}', zeroblob(300), 1000 * i, 0, 1000 * i FROM n`, rows)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("a poll takes %v, and %v beside an archive of %d", before, pollTime(t, d), rows)
	s := openSession(t, d)
	expectFetch(t, s, "a")
	for n := range 3 {
		got, err := s.(core.ArchiveStore).Purge(t.Context(), 0, 1000)
		if err != nil || got != 1000 {
			t.Errorf("purge %d: got %d, %v, want 1000", n, got, err)
		}
	}
	first := query(t, d.DB(), `SELECT min(position) FROM outbox_archive`)
	if !slices.Equal(first, []string{"4000"}) {
		t.Errorf("the archive begins at %s, want 4000: the oldest are purged first", first)
	}
}

// A topic that is paused for long must not make the others' polls slow.
func BenchmarkFetchBehindAPausedTopic(b *testing.B) {
	d := open(b, filepath.Join(b.TempDir(), "outbox.db"), sqlite.Config{})
	_, err := d.DB().ExecContext(b.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
INSERT INTO outbox (topic, key, payload) SELECT 'paused', i, zeroblob(300) FROM n`)
	if err != nil {
		b.Fatal(err)
	}
	s, err := d.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, err := s.PauseTopic(b.Context(), "paused"); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := s.Fetch(b.Context(), everything); err != nil {
			b.Fatal(err)
		}
	}
}
