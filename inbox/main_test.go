package inbox_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/inbox"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is a consumer's database: the effect of a message adds one to its row.
type ledger struct {
	dialect *sqlite.Dialect
	box     *inbox.Inbox
}

func newLedger(t testing.TB) *ledger {
	t.Helper()
	d, err := sqlite.Open(filepath.Join(t.TempDir(), "consumer.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if err := d.MigrateInbox(t.Context()); err != nil { // and no outbox
		t.Fatal(err)
	}
	if _, err := d.DB().ExecContext(t.Context(), `CREATE TABLE effects (id text PRIMARY KEY, n int NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &ledger{d, box}
}

// add is the effect.
func add(ctx context.Context, tx *sql.Tx, id string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO effects (id, n) VALUES ($1, 1) ON CONFLICT (id) DO UPDATE SET n = effects.n + 1`, id)
	return err
}

// times is how often the message had its effect.
func (l *ledger) times(t testing.TB, id string) int {
	t.Helper()
	return times(t, l.dialect.DB(), id)
}

func times(t testing.TB, db *sql.DB, id string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), `SELECT coalesce(sum(n), 0) FROM effects WHERE id = $1`, id).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// grave is a broker for dead letters that answers what it is told to.
type grave struct {
	mu     sync.Mutex
	answer func(try int) error
	refuse func(core.Message) bool // for good
	tries  int
	dead   []core.Message
}

func (g *grave) Publish(_ context.Context, msgs []core.Message) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tries++
	if g.answer != nil {
		if err := g.answer(g.tries); err != nil {
			return err
		}
	}
	for _, m := range msgs {
		if g.refuse != nil && g.refuse(m) {
			return core.ErrPermanent
		}
	}
	g.dead = append(g.dead, msgs...)
	return nil
}

func (g *grave) letters() []core.Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dead
}
