package bench

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// sqlitePlace is a file in a directory of its own.
type sqlitePlace struct{ path string }

func newSQLite(directory string) (database, error) {
	own, err := os.MkdirTemp(directory, "lockstep_bench_")
	if err != nil {
		return nil, fmt.Errorf("make a directory for SQLite: %w", err)
	}
	return &sqlitePlace{filepath.Join(own, "bench.db")}, nil
}

func (p *sqlitePlace) place() Place { return Place{SQLite, p.path} }

func (p *sqlitePlace) drop(context.Context) error { return os.RemoveAll(filepath.Dir(p.path)) }

func (p *sqlitePlace) dialect(archive bool) (dialect, error) {
	return sqlite.Open(p.path, sqlite.Config{Archive: kept(archive)})
}

// pool is set up as the dialect's connections are.
func (p *sqlitePlace) pool() (*sql.DB, error) {
	return sql.Open("sqlite", "file:"+p.path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate")
}

func (p *sqlitePlace) statements() statements {
	return statements{
		series: "(WITH RECURSIVE series (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM series WHERE n < %d - 1) SELECT n FROM series) AS series",
		div:    "/",
		padded: func(number string) string { return "printf('%0" + strconv.Itoa(seqDigits) + "d', " + number + ")" },
		payload: func(text string, more int) string {
			return "CAST(" + text + " || printf('%.*c', " + strconv.Itoa(more) + ", 'x') AS BLOB)"
		},
		concat: func(a, b string) string { return a + " || " + b },
		key:    "key", position: "INTEGER PRIMARY KEY AUTOINCREMENT", text: "TEXT", bytes: "BLOB", timestamp: "TEXT",
		now: "datetime('now')", parameter: func(int) string { return "?" },
		after: func(string) string { return "ANALYZE" },
	}
}
