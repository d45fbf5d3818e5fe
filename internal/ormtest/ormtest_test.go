package ormtest

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Order is the application's row, as each library maps it.
type Order struct {
	ID string `bun:"id,pk" db:"id" gorm:"column:id;primaryKey"`
}

// shop is a database with an orders table and an outbox.
type shop struct {
	dsn    string
	db     *sql.DB
	outbox *core.Outbox
}

// event is what each order's transaction enqueues.
func event(id string) core.Message {
	return core.Message{
		ID: id, Topic: "orders", Key: id,
		Headers: map[string]string{"awkward": `? $1 :a 'é' "x" \`},
		Payload: []byte("{\"awkward\": \"? $1 :a 'é' \\\\\", \"bytes\": \"\x00\xff\"}"),
	}
}

func newPostgres(t *testing.T) shop {
	t.Helper()
	dsn := servers.PostgresSchema(t)
	dialect, err := postgres.Open(dsn, postgres.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("postgres", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return newShop(t, dsn, db, dialect)
}

func newSQLite(t *testing.T) shop {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.db")
	dialect, err := sqlite.Open(path, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dialect.Close() })
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return newShop(t, path, dialect.DB(), dialect)
}

func newShop(t *testing.T, dsn string, db *sql.DB, dialect core.Dialect) shop {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), `CREATE TABLE orders (id varchar(100) PRIMARY KEY)`); err != nil {
		t.Fatal(err)
	}
	return shop{dsn: dsn, db: db, outbox: core.NewOutbox(dialect, core.OutboxConfig{})}
}

// place writes an order and its event in one transaction of the library's, which it rolls back when end is an error.
type place func(ctx context.Context, id string, end error) error

// placeInTx writes an order through the library in a transaction that InTx began.
type placeInTx func(ctx context.Context, tx *sql.Tx, id string) error

var errUndo = errors.New("undo")

// testPlace tries whether the order and its event are there together, or neither is.
func (s shop) testPlace(t *testing.T, write place) {
	t.Helper()
	if err := write(t.Context(), "kept", nil); err != nil {
		t.Fatalf("a transaction that commits: %v", err)
	}
	if err := write(t.Context(), "undone", errUndo); !errors.Is(err, errUndo) {
		t.Fatalf("a transaction that rolls back: got %v, want %v", err, errUndo)
	}
	s.expectKept(t)
}

// testInTx is testPlace for InTx.
func (s shop) testInTx(t *testing.T, write placeInTx) {
	t.Helper()
	s.testPlace(t, func(ctx context.Context, id string, end error) error {
		return s.outbox.InTx(ctx, s.db, core.InTxOptions{}, func(ctx context.Context, tx *sql.Tx) ([]core.Message, error) {
			if err := write(ctx, tx, id); err != nil {
				return nil, err
			}
			return []core.Message{event(id)}, end
		})
	})
}

// expectKept checks that what is committed is the order "kept" and its event, byte for byte.
func (s shop) expectKept(t *testing.T) {
	t.Helper()
	var orders, events int
	var id, payload string
	for query, into := range map[string][]any{
		`SELECT count(*) FROM orders WHERE id = 'kept'`: {&orders},
		`SELECT count(*) FROM outbox`:                   {&events},
		`SELECT max(id) FROM orders`:                    {&id},
		`SELECT payload FROM outbox`:                    {&payload},
	} {
		if err := s.db.QueryRowContext(t.Context(), query).Scan(into...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	if orders != 1 || id != "kept" || events != 1 {
		t.Errorf("committed: %d orders kept, the last id %q, %d events; want one order, kept, and its event", orders, id, events)
	}
	if want := string(event("kept").Payload); payload != want {
		t.Errorf("the event's payload is %q, want %q", payload, want)
	}
}

// expectPoolRefused checks that pool is refused and nothing is written.
func (s shop) expectPoolRefused(t *testing.T, pool core.Execer) {
	t.Helper()
	if err := s.outbox.Enqueue(t.Context(), pool, event("lost")); !errors.Is(err, core.ErrNotInTransaction) {
		t.Errorf("Enqueue(%T): got %v, want ErrNotInTransaction", pool, err)
	}
}
