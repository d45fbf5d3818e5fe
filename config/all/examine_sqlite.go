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

// maxWAL is the size of a WAL that somebody keeps from starting again, in bytes.
const maxWAL = 256 << 20

// Examine implements [config.Examiner].
func (d sqliteDatabase) Examine(ctx context.Context) ([]config.Finding, error) {
	conn, err := d.DB().Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	e := &examination{ctx: ctx, conn: conn}
	var synchronous int
	if e.ask("PRAGMA synchronous", &synchronous) && synchronous < 2 {
		e.problem("open it without settings of your own", "synchronous is below FULL: a power loss takes committed events")
	}
	var last, highest sql.NullInt64
	if e.ask("SELECT (SELECT seq FROM sqlite_sequence WHERE name = "+quoted(d.prefix+"outbox")+"), (SELECT max(position) FROM "+ident(d.prefix+"outbox")+")", &last, &highest) &&
		last.Int64 < highest.Int64 {
		e.problem("UPDATE sqlite_sequence to the highest position; see docs/runbook.md, Restore",
			"the counter of positions stands at %d and the outbox has %d: it was restored in part", last.Int64, highest.Int64)
	}
	if wal, err := os.Stat(d.path + "-wal"); err == nil && wal.Size() > maxWAL {
		e.warn("end what reads without end", "the WAL has %d MiB: a transaction stays open for reading, and keeps it from starting again", wal.Size()>>20)
	}
	return e.findings, joined(e.faults)
}
