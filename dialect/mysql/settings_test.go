package mysql_test

import (
	"fmt"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// What a session does holds for its own settings, whatever the DSN and the server say.
func TestSessionsHaveSettingsOfTheirOwn(t *testing.T) {
	want := map[string]string{
		"isolation": "READ-COMMITTED", "autocommit": "ON", "time_zone": "+00:00", "innodb_lock_wait_timeout": "1", "lock_wait_timeout": "1",
		"completion_type": "NO_CHAIN", "sql_mode": "NO_AUTO_VALUE_ON_ZERO,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION", "sql_select_limit": "18446744073709551615",
	}
	onBoth(t, func(t *testing.T, flavour flavour) {
		hostile := with(t, flavour.database(t), func(c *mysqldriver.Config) {
			isolation := "transaction_isolation"
			if flavour.name == "MariaDB" {
				isolation = "tx_isolation"
			}
			for name, value := range map[string]string{isolation: "'SERIALIZABLE'", "autocommit": "0", "time_zone": "'+09:00'", "innodb_lock_wait_timeout": "50",
				"lock_wait_timeout": "50", "completion_type": "1", "sql_mode": "''", "sql_select_limit": "1"} {
				c.Params[name] = value
			}
		})
		s := openSession(t, open(t, hostile, mysql.Config{}))
		rows, err := mysql.Ask(t.Context(), s, `SHOW VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation', 'autocommit', 'time_zone',
  'innodb_lock_wait_timeout', 'lock_wait_timeout', 'completion_type', 'sql_mode', 'sql_select_limit')`)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) < len(want) {
			t.Errorf("the server has %d of the settings, want %d", len(rows), len(want))
		}
		for _, row := range rows {
			name, got := fmt.Sprintf("%s", row[0]), fmt.Sprintf("%s", row[1])
			if strings.HasSuffix(name, "_isolation") {
				name = "isolation"
			}
			if got != want[name] {
				t.Errorf("%s is %q, want %q", name, got, want[name])
			}
		}
	})
}

// A write that the server gave up for somebody's lock (1205), which leaves its transaction open, is rolled back and made again, all
// of it, until the lock has gone.
func TestAWriteThatMetALockIsMadeAgain(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		enqueued(t, f, core.Message{ID: "a", Topic: "t"})
		enqueued(t, f, core.Message{ID: "b", Topic: "t"})
		s := openSession(t, f)
		held, err := f.DB.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer held.Rollback()
		if err := held.QueryRowContext(t.Context(), `SELECT position FROM outbox WHERE position = 2 FOR UPDATE`).Scan(new(int)); err != nil {
			t.Fatal(err)
		}
		noted := func() (n int) {
			if err := f.DB.QueryRowContext(t.Context(), `SELECT SUM(attempts) FROM outbox`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := status(t, f.DB, "Innodb_row_lock_waits")
		ended := make(chan error, 1)
		go func() {
			ended <- s.Fail(t.Context(), []core.Failure{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1}, {Ref: core.Ref{Position: 2, ID: "b"}, Attempts: 1}})
		}()
		eventually(t, "it waits again", func() bool {
			if len(ended) > 0 {
				t.Fatalf("Fail beside a lock: got %v, want that it is made again", <-ended)
			}
			return status(t, f.DB, "Innodb_row_lock_waits")-before >= 2
		})
		if n := noted(); n > 0 {
			t.Errorf("%d attempts are committed of a call that waits, want all or none", n)
		}
		if err := held.Rollback(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("Fail: %v", err)
		}
		if n := noted(); n != 2 {
			t.Errorf("%d attempts are noted, want 2", n)
		}
	})
}
