package conformance

import (
	"context"
	"database/sql"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// DialectFixture is an empty outbox for one check. [SQLFixture] makes one of a *sql.DB.
type DialectFixture struct {
	// Dialect is what is tested, migrated.
	Dialect core.Dialect
	// DB is the application's way to the same database, where that is SQL, and adds the checks for that.
	DB *sql.DB
	// Begin begins a transaction of the application.
	Begin func(ctx context.Context) (Tx, error)
	// Archiving is a dialect on the same outbox that is configured to keep the delivered events of every topic, and adds
	// the checks for that. It may be Dialect itself. Defaults to none.
	Archiving core.Dialect
	// Elsewhere is a dialect on the same outbox as another process has it: what is announced there is heard here. Defaults
	// to Dialect itself, whose connections are other ones each time.
	Elsewhere core.Dialect
	// ConcurrentWriters says that a transaction that has enqueued does not keep others from writing, until it ends, and
	// adds the checks for that. It is not so where the database has one writer.
	ConcurrentWriters bool
	// Patience is how long a check watches that something does not happen. Defaults to 3 s.
	Patience time.Duration
}

// TestDialect runs every check for dialects. open is called once for each, and registers its clean-up with t.
func TestDialect(t *testing.T, open func(t *testing.T) DialectFixture) {
	t.Helper()
	for _, g := range dialectGroups {
		runChecks(t, g, open)
	}
}

var dialectGroups = []group[DialectFixture]{
	{checks: slices.Concat(enqueueChecks, fetchChecks, gapChecks, settleChecks, promoteChecks, leaseChecks, deadChecks, pauseChecks,
		sessionChecks)},
	{
		needs:  "ConcurrentWriters",
		has:    func(f DialectFixture) bool { return f.ConcurrentWriters },
		checks: slices.Concat(fetchWritersChecks, gapWritersChecks, sessionWritersChecks),
	},
	{
		needs:  "SQL",
		has:    func(f DialectFixture) bool { return f.DB != nil },
		checks: enqueueSQLChecks,
	},
	{
		needs:  "ConcurrentWriters and a KeyLocker",
		has:    func(f DialectFixture) bool { return f.ConcurrentWriters && f.keyLocker() != nil },
		checks: keyLockChecks,
	},
	{
		needs:  "an ArchiveStore (DialectFixture.Archiving)",
		has:    func(f DialectFixture) bool { return f.Archiving != nil },
		checks: archiveChecks,
	},
	{
		needs:  "a Listener",
		has:    func(f DialectFixture) bool { _, ok := f.Dialect.(core.Listener); return ok },
		checks: listenChecks,
	},
	{
		needs:  "a Notifier",
		has:    func(f DialectFixture) bool { _, ok := f.elsewhere().(core.Notifier); return ok },
		checks: notifyChecks,
	},
}
