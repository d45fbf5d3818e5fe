package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestCheckSaysWhatIsWrong(t *testing.T) {
	const all = `DROP TABLE outbox, outbox_delayed, outbox_dead, outbox_archive, outbox_blocked, outbox_control, outbox_lease, outbox_key_lock`
	for name, tt := range map[string]struct {
		harm  string
		words []string
	}{
		"another engine":  {`ALTER TABLE outbox_lease ENGINE = MyISAM`, []string{"outbox_lease (MyISAM)", "ENGINE=InnoDB"}},
		"missing table":   {`DROP TABLE outbox_dead`, []string{"outbox_dead", "missing", "Schema"}},
		"missing control": {`DROP TABLE outbox_control`, []string{"there is no outbox", "Migrate"}},
		"missing all":     {all, []string{"there is no outbox", "Migrate"}},
		"newer schema":    {`UPDATE outbox_control SET schema_version = 99`, []string{"version 99", "update this program"}},
		"dropped column":  {`ALTER TABLE outbox DROP COLUMN retry_at`, []string{"retry_at", "Schema"}},
		"no control row":  {`DELETE FROM outbox_control`, []string{"Migrate"}},
	} {
		each(t, name, func(t *testing.T, flavour flavour) {
			f := open(t, flavour.database(t), mysql.Config{})
			d := f.Dialect.(*mysql.Dialect)
			if err := d.Check(t.Context()); err != nil {
				t.Fatalf("before: %v", err)
			}
			execute(t, f, tt.harm)
			expectSetup(t, "Check", d.Check(t.Context()), tt.words...)
		})
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn := flavour.database(t)
		_, err := dialect(t, dsn, mysql.Config{}).Open(t.Context())
		expectSetup(t, "without tables", err, "Migrate")
		f := open(t, dsn, mysql.Config{})
		execute(t, f, `UPDATE outbox_control SET schema_version = 99`)
		_, err = f.Dialect.Open(t.Context())
		expectSetup(t, "a newer schema", err, "version 99")
		expectSetup(t, "Migrate of a newer schema", f.Dialect.(*mysql.Dialect).Migrate(t.Context()), "version 99")
		execute(t, f, `UPDATE outbox_control SET schema_version = 0`)
		_, err = f.Dialect.Open(t.Context())
		expectSetup(t, "an older schema", err, "Migrate")
		_, err = dialect(t, with(t, dsn, func(c *mysqldriver.Config) { c.Passwd = "wrong" }), mysql.Config{}).Open(t.Context())
		expectSetup(t, "a wrong password", err, "password")
		if strings.Contains(err.Error(), "wrong") {
			t.Errorf("the error tells the password: %v", err)
		}
		_, err = dialect(t, with(t, dsn, func(c *mysqldriver.Config) { c.DBName = "nowhere_to_be_found" }), mysql.Config{}).Open(t.Context())
		expectSetup(t, "a wrong database", err, "nowhere_to_be_found")
	})
}

func TestCheckSaysWhatTheUserLacks(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn := flavour.database(t)
		f := open(t, dsn, mysql.Config{})
		relay := as(t, f, dsn, relayUser)
		d := relay.Dialect.(*mysql.Dialect)
		if err := d.Check(t.Context()); err != nil {
			t.Fatalf("with all that Grants gives: %v", err)
		}
		var user string
		if err := relay.DB.QueryRowContext(t.Context(), `SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)`).Scan(&user); err != nil {
			t.Fatal(err)
		}
		execute(t, f, `REVOKE DELETE ON outbox FROM '`+user+`'@'%'`)
		expectSetup(t, "without DELETE", d.Check(t.Context()), "DELETE", "Grants")
		execute(t, f, `REVOKE SELECT ON outbox_control FROM '`+user+`'@'%'`)
		_, err := d.Open(t.Context())
		expectSetup(t, "without SELECT", err, "SELECT", "Grants")
		err = dialect(t, with(t, dsn, func(c *mysqldriver.Config) { c.User, c.Passwd = user, "x" }), mysql.Config{Prefix: "own_"}).Migrate(t.Context())
		expectSetup(t, "Migrate without CREATE", err, "CREATE")
	})
}

// A relay needs the tables and nothing else; an application needs less. The suite runs under their privileges.
func TestConformanceUnderLeastPrivileges(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		direct := flavour.database(t)
		f := open(t, direct, mysql.Config{})
		dsn, proxy := through(t, direct)
		application, relay := as(t, f, dsn, applicationUser), as(t, f, dsn, relayUser)
		fixture := conformance.SQLFixture(relay.Dialect, application.DB).Through(proxy)
		fixture.ConcurrentWriters, fixture.Archiving = true, relay.Archiving
		conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
			emptied(t, f, "")
			return fixture
		})
	})
}

// Not parallel: the whole server takes no writes for a moment.
func TestReadOnlyServersAreRefused(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour.name, func(t *testing.T) {
			dsn := flavour.database(t)
			f := open(t, dsn, mysql.Config{})
			relay := as(t, f, dsn, relayUser)
			before := openSession(t, relay)
			settings := []string{"read_only"}
			if flavour.name == "MySQL" {
				settings = append(settings, "super_read_only")
			}
			for _, setting := range settings {
				set := func(value string) {
					if _, err := f.DB.ExecContext(context.Background(), `SET GLOBAL `+setting+` = `+value); err != nil {
						t.Error(err)
					}
				}
				t.Cleanup(func() { set("0") })
				set("1")
				_, err := relay.Dialect.Open(t.Context())
				expectSetup(t, setting+": Open", err, "read-only", "takes writes")
				expectSetup(t, setting+": Check", relay.Dialect.(*mysql.Dialect).Check(t.Context()), "read-only")
				expectSetup(t, setting+": Migrate", relay.Dialect.(*mysql.Dialect).Migrate(t.Context()), "read-only")
				expectSetup(t, setting+": CheckDB", relay.Dialect.(*mysql.Dialect).CheckDB(t.Context(), relay.DB), "read-only")
				if setting == "read_only" {
					err := before.Acknowledge(t.Context(), []core.Ref{{Position: 1, ID: "a"}})
					expectSetup(t, "a session from before", err, "read-only")
				}
				set("0")
			}
		})
	}
}

// The servers that are not here.
func TestOtherServersAreRefused(t *testing.T) {
	good := func(change map[string]string) map[string]string {
		v := map[string]string{"version": "8.4.0", "auto_increment_increment": "1", "log_bin": "ON", "binlog_format": "ROW", "read_only": "OFF"}
		for name, value := range change {
			v[name] = value
		}
		return v
	}
	for name, tt := range map[string]struct {
		change map[string]string
		words  []string
	}{
		"MySQL 5.7":       {map[string]string{"version": "5.7.44-log"}, []string{"5.7.44", "8.0.17"}},
		"MySQL 8.0.16":    {map[string]string{"version": "8.0.16"}, []string{"8.0.16", "8.0.17"}},
		"MariaDB 10.5":    {map[string]string{"version": "10.5.29-MariaDB-log"}, []string{"10.5.29", "10.6"}},
		"no version":      {map[string]string{"version": "unknown"}, []string{"not a number"}},
		"steps":           {map[string]string{"auto_increment_increment": "7"}, []string{"auto_increment_increment is 7"}},
		"statements":      {map[string]string{"binlog_format": "STATEMENT"}, []string{"binlog_format", "ROW"}},
		"Galera":          {map[string]string{"version": "10.11.6-MariaDB", "wsrep_on": "ON"}, []string{"Galera"}},
		"super_read_only": {map[string]string{"super_read_only": "ON"}, []string{"read-only"}},
		"MariaDB 12":      {map[string]string{"version": "12.1.2-MariaDB", "read_only": "NO_LOCK_NO_ADMIN"}, []string{"read-only"}},
	} {
		expectSetup(t, name, mysql.Faults(good(tt.change)), tt.words...)
	}
	for _, version := range []string{"8.0.17", "8.0.45-36", "9.7.4-2", "10.6.0-MariaDB", "5.5.5-10.11.19-MariaDB-0+deb12u1-log", "11.8.3-MariaDB"} {
		if err := mysql.Faults(good(map[string]string{"version": version})); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

// What Schema prints is what Migrate does, for tools that execute one statement at a time as well.
func TestSchemaAndGrantsAreWhole(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn := flavour.database(t)
		printed := dialect(t, dsn, mysql.Config{Prefix: "Shop_"})
		own := conformance.SQLFixture(printed, pool(t, dsn))
		for statement := range strings.SplitSeq(printed.Schema(), ";\n") {
			if strings.TrimSpace(statement) != "" {
				execute(t, own, statement)
			}
		}
		if err := printed.Check(t.Context()); err != nil {
			t.Errorf("Check: %v", err)
		}
		if err := printed.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate: %v", err)
		}
	})
}

func TestMigrateMayRunManyTimesAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn := flavour.database(t)
		var group sync.WaitGroup
		for range 6 {
			d := dialect(t, dsn, mysql.Config{})
			group.Go(func() {
				if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
}

func TestDatabaseIsUsed(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		there, elsewhere := flavour.database(t), flavour.database(t)
		c, err := mysqldriver.ParseDSN(there)
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, elsewhere, mysql.Config{Database: c.DBName, Prefix: "shop_"})
		enqueued(t, f, core.Message{ID: "a", Topic: "t"})
		var n int
		if err := pool(t, there).QueryRowContext(t.Context(), `SELECT COUNT(*) FROM shop_outbox`).Scan(&n); err != nil || n != 1 {
			t.Errorf("the other database's outbox holds %d events (%v), want 1", n, err)
		}
	})
}

func TestCheckDBSaysWhatIsWrong(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn := flavour.database(t)
		f := open(t, dsn, mysql.Config{})
		d := f.Dialect.(*mysql.Dialect)
		application := as(t, f, dsn, applicationUser)
		if err := d.CheckDB(t.Context(), application.DB); err != nil {
			t.Errorf("as the application: %v", err)
		}
		safe, err := mysql.OpenDB(dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer safe.Close()
		if err := d.CheckDB(t.Context(), safe); err != nil {
			t.Errorf("OpenDB's pool: %v", err)
		}
		stepping := pool(t, with(t, dsn, func(c *mysqldriver.Config) { c.Params["auto_increment_increment"] = "2" }))
		expectSetup(t, "positions in steps", d.CheckDB(t.Context(), stepping), "auto_increment_increment")
		elsewhere := openElsewhere(t, flavour)
		expectSetup(t, "another server", d.CheckDB(t.Context(), elsewhere), "another server")
		var user string
		if err := application.DB.QueryRowContext(t.Context(), `SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)`).Scan(&user); err != nil {
			t.Fatal(err)
		}
		execute(t, f, `REVOKE INSERT ON outbox_delayed FROM '`+user+`'@'%'`)
		expectSetup(t, "without INSERT", d.CheckDB(t.Context(), application.DB), "INSERT", "Grants")
	})
}

// openElsewhere returns a pool on the other kind of server, which is another one.
func openElsewhere(t *testing.T, f flavour) *sql.DB {
	t.Helper()
	if f.name == "MySQL" {
		return pool(t, servers.MariaDBDatabase(t))
	}
	return pool(t, servers.MySQLDatabase(t))
}

// A database whose character set is not that of the tables: MariaDB before 11.5 makes them in Latin-1, unless told
// otherwise.
func TestIDsInADatabaseOfAnotherCharacterSet(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		for _, set := range []string{"latin1", "utf8mb3"} {
			dsn := flavour.database(t)
			if _, err := pool(t, dsn).Exec("ALTER DATABASE CHARACTER SET " + set); err != nil {
				t.Fatal(err)
			}
			f := open(t, dsn, mysql.Config{})
			for _, id := range []string{"é", "日本", "😀"} {
				enqueued(t, f, core.Message{ID: id, Topic: "t"})
			}
			s := openSession(t, f)
			for _, r := range fetchAll(t, s).Records {
				if err := s.Acknowledge(t.Context(), []core.Ref{r.Ref()}); err != nil {
					t.Errorf("%s, id %q: %v", set, r.Message.ID, err)
				}
			}
			if left := fetchAll(t, s).Records; len(left) > 0 {
				t.Errorf("%s: %d events are left, the first with the id %q", set, len(left), left[0].Message.ID)
			}
		}
	})
}

func TestOpenRefuses(t *testing.T) {
	for names, open := range map[string]func() (*mysql.Dialect, error){
		"Database": func() (*mysql.Dialect, error) { return mysql.Open("mysql://h/x", mysql.Config{Database: "a`b"}) },
		"Prefix":   func() (*mysql.Dialect, error) { return mysql.Open("mysql://h/x", mysql.Config{Prefix: "a-b"}) },
		"Archive":  func() (*mysql.Dialect, error) { return mysql.Open("mysql://h/x", mysql.Config{Archive: []string{""}}) },
		"/NAME":    func() (*mysql.Dialect, error) { return mysql.Open("mysql://h", mysql.Config{}) },
	} {
		if _, err := open(); err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("got %v, want an error that names %s", err, names)
		}
	}
}

func TestErrorsKeepThePasswordToThemselves(t *testing.T) {
	const password = "s3cret-word"
	for _, dsn := range []string{
		"user:" + password + "@tcp(127.0.0.1:1)/x", "user:" + password + "@tcp(127.0.0.1:1/x", "user:" + password + "@/x?tls=unknown",
		"mysql://user:" + password + "@127.0.0.1:1/x", "mysql://user:" + password + "@127.0.0.1:port/x",
		"mariadb://user:" + password + "@[::1/x", "mysql://user:" + password + "@h/x?timeout=soon", "mysql:user:" + password,
	} {
		d, err := mysql.Open(dsn, mysql.Config{})
		if err == nil {
			err = d.Migrate(t.Context())
			d.Close()
		}
		if err == nil || strings.Contains(err.Error(), password) {
			t.Errorf("got %v, want an error without the password", err)
		}
		db, err := mysql.OpenDB(dsn)
		if err == nil {
			db.Close()
		} else if strings.Contains(err.Error(), password) {
			t.Errorf("OpenDB: got %v", err)
		}
	}
}

// A URL means what the driver's own form means.
func TestURLs(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		c, err := mysqldriver.ParseDSN(flavour.database(t))
		if err != nil {
			t.Fatal(err)
		}
		url := strings.ToLower(flavour.name) + "://" + c.User + ":" + c.Passwd + "@" + c.Addr + "/" + c.DBName + "?interpolateParams=true&timeout=5s"
		d := dialect(t, url, mysql.Config{})
		if err := errors.Join(d.Migrate(t.Context()), d.Check(t.Context())); err != nil {
			t.Error(err)
		}
		db, err := mysql.OpenDB(url)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if err := d.CheckDB(t.Context(), db); err != nil {
			t.Error(err)
		}
	})
}
