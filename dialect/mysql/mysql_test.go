package mysql_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the time zones, where the machine has none

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { dialecttest.Main(m, 8) }

// What the tests of all dialects share, under short names.
var (
	enqueued    = dialecttest.Enqueued
	execute     = dialecttest.Execute
	expectSetup = dialecttest.ExpectSetup
	fetchAll    = dialecttest.FetchAll
	openSession = dialecttest.OpenSession
	started     = dialecttest.Started
)

// flavour is a kind of server.
type flavour struct {
	name, server string
	database     func(servers.TB) string // a new one's DSN
	slow         *sync.Mutex             // see slowWriters
}

var flavours = []flavour{
	{"MySQL", "mysql", servers.MySQLDatabase, &sync.Mutex{}},
	{"MariaDB", "mariadb", servers.MariaDBDatabase, &sync.Mutex{}},
}

// slowWriters keeps the rest of the test apart from others of its kind: its statements run on, and where a table is never quiet a
// relay waits for each that was running, whichever database it writes to. Two such tests would wait for each other.
func (f flavour) slowWriters(t *testing.T) {
	t.Helper()
	f.slow.Lock()
	t.Cleanup(f.slow.Unlock)
}

// onBoth runs test for each flavour, in parallel with others.
func onBoth(t *testing.T, test func(t *testing.T, f flavour)) {
	t.Helper()
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f)
		})
	}
}

// each runs test for each flavour, as a part of the test that has this name.
func each(t *testing.T, name string, test func(t *testing.T, f flavour)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { onBoth(t, test) })
}

func dialect(t testing.TB, dsn string, config mysql.Config) *mysql.Dialect {
	t.Helper()
	d, err := mysql.Open(dsn, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func pool(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	config, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.Logger = &mysqldriver.NopLogger{} // what it would log is in the errors, and is often what a test wants
	connector, err := mysqldriver.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { db.Close() })
	return db
}

// open returns a migrated dialect, and the application's pool on the same database.
func open(t testing.TB, dsn string, config mysql.Config) conformance.DialectFixture {
	t.Helper()
	d := dialect(t, dsn, config)
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := conformance.SQLFixture(d, pool(t, dsn))
	f.ConcurrentWriters = true
	config.Archive = []string{"*"}
	f.Archiving = dialect(t, dsn, config)
	return f
}

// with returns dsn with its settings changed.
func with(t testing.TB, dsn string, change func(c *mysqldriver.Config)) string {
	t.Helper()
	c, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	if c.Params == nil {
		c.Params = map[string]string{}
	}
	change(c)
	return c.FormatDSN()
}

func emptied(t testing.TB, f conformance.DialectFixture, prefix string) {
	t.Helper()
	dialecttest.Emptied(t, f, prefix, "() VALUES ()")
}

// fill inserts n events with the ids 1 to n, of so many keys.
func fill(t testing.TB, f conformance.DialectFixture, n, keys int, payload string) {
	t.Helper()
	execute(t, f, fmt.Sprintf("INSERT INTO outbox (id, topic, `key`, payload) WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999) "+
		"SELECT 1000 * a.i + b.i + 1, 't', (1000 * a.i + b.i) %% %d, '%s' FROM n AS a, n AS b WHERE 1000 * a.i + b.i < %d ORDER BY a.i, b.i", keys, payload, n))
}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// variant is how an application may open its pool.
type variant struct {
	name   string
	change func(t *testing.T, c *mysqldriver.Config)
}

var variants = []variant{
	{"defaults", func(*testing.T, *mysqldriver.Config) {}},
	{"interpolated, found rows, Tokyo", func(t *testing.T, c *mysqldriver.Config) {
		c.InterpolateParams, c.ParseTime, c.ClientFoundRows = true, true, true
		c.Loc = location(t, "Asia/Tokyo")
		c.Params["time_zone"] = "'+09:00'"
		c.Params["sql_mode"] = "'ANSI,NO_BACKSLASH_ESCAPES'"
	}},
	{"Latin-1, lax, New York", func(t *testing.T, c *mysqldriver.Config) {
		c.Loc = location(t, "America/New_York")
		c.Params["charset"] = "latin1"
		c.Params["time_zone"] = "'-05:00'"
		c.Params["sql_mode"] = "'HIGH_NOT_PRECEDENCE,PAD_CHAR_TO_FULL_LENGTH,NO_AUTO_VALUE_ON_ZERO'"
	}},
	{"three-byte UTF-8, interpolated", func(_ *testing.T, c *mysqldriver.Config) {
		c.InterpolateParams = true
		c.Params["charset"] = "utf8"
	}},
}

// The application's pool in ways in which values travel otherwise, and with settings that change what statements and values
// mean. The sessions have settings of their own.
func TestConformance(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f flavour) {
		for _, v := range variants[:dose.Of(t, 1, len(variants))] {
			t.Run(v.name, func(t *testing.T) {
				t.Parallel()
				direct := with(t, f.database(t), func(c *mysqldriver.Config) { v.change(t, c) })
				empty := open(t, direct, mysql.Config{Prefix: "shop_"})
				dsn, proxy := through(t, direct)
				fixture := open(t, dsn, mysql.Config{Prefix: "shop_"}).Through(proxy)
				conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
					emptied(t, empty, "shop_")
					return fixture
				})
			})
		}
	})
}

// What an application sends arrives, byte for byte and at its time, whatever its pool's settings.
func TestEnqueueUnderEverySetting(t *testing.T) {
	const awkward = `é漢😀 'single' "double" \back\ ? :n % ` + "\t\n"
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	onBoth(t, func(t *testing.T, f flavour) {
		dsn := f.database(t)
		fixture := open(t, dsn, mysql.Config{})
		s := openSession(t, fixture)
		for _, v := range variants {
			for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
				db := pool(t, with(t, dsn, func(c *mysqldriver.Config) { v.change(t, c) }))
				tx, err := db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level})
				if err != nil {
					t.Fatal(err)
				}
				want := core.Message{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward}, Payload: all}
				later := want
				later.ID += "2"
				later.NotBefore = time.Date(2026, 10, 25, 0, 30, 0, 123456000, time.UTC) // in the hour that some time zones have twice
				outbox := core.NewOutbox(fixture.Dialect, core.OutboxConfig{LockKeys: true})
				if err := outbox.Enqueue(t.Context(), tx, want, later); err != nil {
					t.Fatalf("%s, %v: %v", v.name, level, err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				lease, err := s.ReadLease(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if p, err := s.Promote(t.Context(), lease.Epoch, 10); err != nil || p.Moved != 1 {
					t.Fatalf("%s, %v: Promote: got %+v, %v, want one moved", v.name, level, p, err)
				}
				records := fetchAll(t, s).Records
				for i, r := range records {
					m := r.Message
					if !strings.HasPrefix(m.ID, awkward) || m.Topic != awkward || m.Key != awkward || m.Headers[awkward] != awkward || !bytes.Equal(m.Payload, all) {
						t.Errorf("%s, %v: got %q, want %q", v.name, level, m, want)
					}
					if i == 1 && !m.EnqueuedAt.Equal(later.NotBefore) {
						t.Errorf("%s, %v: an event that was due at %v is of %v", v.name, level, later.NotBefore, m.EnqueuedAt)
					}
				}
				if len(records) != 2 {
					t.Errorf("%s, %v: %d events arrived, want 2", v.name, level, len(records))
				}
				execute(t, fixture, `DELETE FROM outbox`)
			}
		}
	})
}

// More than fits into a packet, of a server that was asked and of one that was not.
func TestEnqueueFitsIntoPackets(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, f flavour) {
		dsn := f.database(t)
		migrated := open(t, dsn, mysql.Config{})
		for name, d := range map[string]core.Dialect{"asked": migrated.Dialect, "not asked": dialect(t, dsn, mysql.Config{})} {
			for _, interpolate := range []bool{false, true} {
				fixture := conformance.SQLFixture(d, pool(t, with(t, dsn, func(c *mysqldriver.Config) { c.InterpolateParams = interpolate })))
				msgs := make([]core.Message, 30)
				for i := range msgs {
					msgs[i] = core.Message{ID: fmt.Sprint(i), Topic: "t", Payload: bytes.Repeat([]byte{0, '\''}, core.MaxPayloadBytes/2)} // escaped, twice as long
				}
				tx, err := fixture.DB.BeginTx(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := core.NewOutbox(d, core.OutboxConfig{}).Enqueue(t.Context(), tx, msgs...); err != nil {
					t.Errorf("%s, interpolateParams=%v: %v", name, interpolate, err)
				}
				var inOrder bool
				err = tx.QueryRowContext(t.Context(), `SELECT COUNT(*) = 30 AND SUM(position - (SELECT MIN(position) FROM outbox) = id) = 30 FROM outbox`).Scan(&inOrder)
				if err != nil || !inOrder {
					t.Errorf("%s, interpolateParams=%v: the positions are not in the order of the arguments (%v)", name, interpolate, err)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}
