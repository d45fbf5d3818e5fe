package all

import (
	"context"
	"database/sql"
	"os"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// sqliteDatabase is the dialect, and what doctor asks of it.
type sqliteDatabase struct {
	*sqlite.Dialect
	path, prefix string
}

// Examine implements [config.Examiner]. How an application opens the file (synchronous, say) is seen only from within it, by
// the dialect's CheckDB.
func (d sqliteDatabase) Examine(ctx context.Context) ([]config.Finding, error) {
	conn, err := d.DB().Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	e := &examination{ctx: ctx, conn: conn}
	var last, highest sql.NullInt64
	if e.ask("SELECT (SELECT seq FROM sqlite_sequence WHERE name = "+quoted(d.prefix+"outbox")+"), (SELECT max(position) FROM "+ident(d.prefix+"outbox")+")", &last, &highest) &&
		last.Int64 < highest.Int64 {
		e.problem("UPDATE sqlite_sequence to the highest position; see docs/runbook.md, A database was restored from a backup",
			"the counter of positions stands at %d and the outbox has %d: it was restored in part", last.Int64, highest.Int64)
	}
	if wal, err := os.Stat(d.path + "-wal"); err == nil && wal.Size() > maxWAL {
		e.warn("end what reads without end", "the WAL has %d MiB: a transaction stays open for reading, and keeps it from starting again", wal.Size()>>20)
	}
	return e.findings, joined(e.faults)
}
