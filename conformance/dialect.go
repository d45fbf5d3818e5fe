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
	// Table is the name of a table of the application's own that [TestPair] creates and drops through DB. Defaults to
	// conformance_ and random digits.
	Table string
	// Begin begins a transaction of the application.
	Begin func(ctx context.Context) (Tx, error)
	// Archiving is a dialect on the same outbox that is configured to keep the delivered events of every topic, and adds
	// the checks for that. It may be Dialect itself. Defaults to none.
	Archiving core.Dialect
	// Elsewhere is a dialect on the same outbox as another process has it: what is announced there is heard here. Defaults
	// to Dialect itself, whose connections are other ones each time.
	Elsewhere core.Dialect
	// ConcurrentWriters says that a transaction that has enqueued does not keep others from writing, until it ends, and
	// adds the checks for that. It is not so where the database has one writer. [TestPair] asks for one or the other
	// (pair-late-commit), and fails a database that has concurrent writers and a fixture that does not say so, unless a
	// transaction then takes several times longer than those before it: that looks as if it waited.
	ConcurrentWriters bool
	// NoServer says that the database is a file or memory of the application's process: it has one writer at a time, and a
	// session no connection that could break. [TestDialect]'s report then says of what ConcurrentWriters and Cut would add that
	// there is nothing of the kind, and no promise misses it. What [TestPair] does with Cut, LoseAnswers and Restart such a database
	// can have: it is the processes that break which have it open. It takes no check away: what the fixture has is exercised.
	NoServer bool
	// Patience is how long a check watches that something does not happen. Defaults to 3 s.
	Patience time.Duration

	// What follows adds checks. The harm must concern this fixture's Dialect, DB and Begin, and no other's, as the harm
	// does that a [Proxy] before the server does ([DialectFixture.Through] sets the first three); only Restart's may.

	// Outage makes the database unreachable, until heal is called: what is under way breaks, what is begun fails.
	Outage func() (heal func(), err error)
	// Cut breaks every connection at once. New ones work.
	Cut func()
	// LoseAnswers lets everything reach the database and loses what it answers, until heal is called, which breaks the
	// connections that wait for an answer.
	LoseAnswers func() (heal func(), err error)
	// Restart kills the database's server and brings it up again. Where there is none, every process that has the file open
	// loses it without having closed it, and then it is opened again.
	Restart func() error

	// Scale multiplies what [TestPair] writes and how often it does harm. Defaults to 1.
	Scale int
	// Seed is that of TestPair's random choices. Defaults to a random one; a failure names it.
	Seed uint64
	// Close ends what the fixture was made of. Defaults to nothing, where open has registered that with t.
	Close func() error
}

// TestDialect runs every check for dialects. open is called once for each, and registers its clean-up with t, or sets
// Close. The report is complete when t's subtests have ended; it is logged then.
func TestDialect(t *testing.T, open func(t *testing.T) DialectFixture) *Report {
	t.Helper()
	return dialectSuite.test(t, open)
}

// VerifyDialect is [TestDialect] without a test. open is called once for each check, and its fixture closed. The error
// has every failure; the report has them, too.
func VerifyDialect(ctx context.Context, open func(ctx context.Context) (DialectFixture, error)) (Report, error) {
	return dialectSuite.verify(ctx, open)
}

var dialectSuite = suite[DialectFixture]{subject: "dialect", groups: dialectGroups, close: closeDialect, lacks: DialectFixture.lacks}

func closeDialect(f DialectFixture) error {
	if f.Close == nil {
		return nil
	}
	return f.Close()
}

var dialectGroups = []group[DialectFixture]{
	{
		ofFixture: true,
		checks:    []check[DialectFixture]{{"dialect-fixture", "the fixture has a Dialect with an empty outbox, and a Begin", checkDialectFixture}},
	},
	{checks: slices.Concat(enqueueChecks, fetchChecks, gapChecks, settleChecks, buryChecks, promoteChecks, leaseChecks, deadChecks, pauseChecks,
		sessionChecks)},
	{
		needs:     "ConcurrentWriters",
		has:       func(f DialectFixture) bool { return f.ConcurrentWriters },
		pointless: func(f DialectFixture) bool { return f.NoServer },
		checks:    slices.Concat(fetchWritersChecks, gapWritersChecks, sessionWritersChecks),
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
		has:    func(f DialectFixture) bool { _, ok := core.Ability[core.Listener](f.Dialect); return ok },
		checks: listenChecks,
	},
	{
		needs:  "a Notifier",
		has:    func(f DialectFixture) bool { _, ok := core.Ability[core.Notifier](f.elsewhere()); return ok },
		checks: notifyChecks,
	},
	{
		needs:  "Outage",
		has:    func(f DialectFixture) bool { return f.Outage != nil },
		checks: outageChecks,
	},
	{
		needs:     "Cut",
		has:       func(f DialectFixture) bool { return f.Cut != nil },
		pointless: func(f DialectFixture) bool { return f.NoServer },
		checks:    cutChecks,
	},
}
