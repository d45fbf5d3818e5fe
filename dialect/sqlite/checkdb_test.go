package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// good is the DSN parameters that CheckDB's documentation names.
const good = "?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=busy_timeout(10000)&_txlock=immediate"

func pool(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// An application may bring its own pool, and its transactions carry events like the dialect's own. The tables have a
// prefix here.
func TestConformanceOverAPoolOfTheApplication(t *testing.T) {
	t.Parallel()
	conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
		path := filepath.Join(t.TempDir(), "outbox.db")
		d, db := open(t, path, sqlite.Config{Prefix: "shop_"}), pool(t, "file:"+path+good)
		if err := d.CheckDB(t.Context(), db); err != nil {
			t.Fatal(err)
		}
		f := fixture(t, path, "shop_")
		f.DB, f.Begin = db, conformance.SQLFixture(d, db).Begin
		return f
	})
}

func TestCheckDBAccepts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	memory := "file:/" + core.NewID() + "?vfs=memdb"
	inMemory := open(t, memory, sqlite.Config{})
	one := pool(t, "file:"+path+good)
	one.SetMaxOpenConns(1)
	x, err := sqlx.Open("sqlite", "file:"+path+good)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for name, err := range map[string]error{
		"its own":            d.CheckDB(t.Context(), d.DB()),
		"one connection":     d.CheckDB(t.Context(), one),
		"of sqlx":            d.CheckDB(t.Context(), x.DB),
		"in shared memory":   inMemory.CheckDB(t.Context(), pool(t, memory+"&_pragma=busy_timeout(10000)")),
		"the outbox is fine": d.Check(t.Context()), // nothing was left open
	} {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCheckDBRefuses(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox.db")
	d := open(t, path, sqlite.Config{})
	open(t, filepath.Join(dir, "other.db"), sqlite.Config{})
	memory := "file:/" + core.NewID() + "?vfs=memdb"
	open(t, memory, sqlite.Config{})
	without := func(setting string) string { return "file:" + path + strings.Replace(good, setting, "", 1) }
	notSQLite := sql.OpenDB(fakeConnector{})
	defer notSQLite.Close()
	attached := pool(t, "file:"+filepath.Join(dir, "shop.db")+good)
	attached.SetMaxOpenConns(1)
	execute(t, attached, `ATTACH '`+path+`' AS events`)
	for name, tt := range map[string]struct {
		db   *sql.DB
		want string
	}{
		"no SQLite":          {notSQLite, "does not answer like SQLite"},
		"another outbox":     {pool(t, "file:"+filepath.Join(dir, "other.db")+good), "another outbox"},
		"no outbox":          {pool(t, "file:"+filepath.Join(dir, "empty.db")+good), "there is no outbox"},
		"an attached outbox": {attached, `attached database "events"`},
		"synchronous":        {pool(t, without("_pragma=synchronous(FULL)&")+"&_pragma=synchronous(NORMAL)"), "synchronous is 1"},
		"no busy_timeout":    {pool(t, without("_pragma=busy_timeout(10000)&")), "busy_timeout is 0"},
		"deferred":           {pool(t, without("&_txlock=immediate")), "begin DEFERRED"},
	} {
		t.Run(name, func(t *testing.T) {
			expectFault(t, d.CheckDB(t.Context(), tt.db), tt.want)
		})
	}
	err := d.CheckDB(t.Context(), pool(t, "file:"+path+"?_pragma=synchronous(OFF)"))
	for _, want := range []string{"synchronous", "busy_timeout", "DEFERRED"} {
		expectFault(t, err, want)
	}
}

// The tables' names are those of the main file, so that an attached outbox takes no event even unchecked.
func TestAnAttachedOutboxTakesNoEvent(t *testing.T) {
	dir := t.TempDir()
	d := open(t, filepath.Join(dir, "outbox.db"), sqlite.Config{})
	db := pool(t, "file:"+filepath.Join(dir, "shop.db")+good)
	db.SetMaxOpenConns(1)
	execute(t, db, `ATTACH '`+filepath.Join(dir, "outbox.db")+`' AS events`)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := core.NewOutbox(d, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{Topic: "t"}); err == nil {
		t.Error("an event was enqueued into an attached file")
	}
}

// fakeConnector is a database that is not SQLite.
type fakeConnector struct{}

func (fakeConnector) Connect(ctx context.Context) (driver.Conn, error) { return fakeConn{}, nil }
func (fakeConnector) Driver() driver.Driver                            { return nil }

type fakeConn struct{ driver.Conn }

func (fakeConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("unknown function sqlite_version")
}
func (fakeConn) Close() error { return nil }
