package mysql_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/docs"
)

// An application in another language does what docs/table.md shows. Here it is the command-line client that the machine has,
// MariaDB's or MySQL's, with nothing set but its character set.
func TestWhatTheDocumentationInsertsIsDelivered(t *testing.T) {
	statements, _ := docs.TableSQL(t, "MySQL and MariaDB")
	clients := 0
	for _, name := range []string{"mariadb", "mysql"} {
		client, err := exec.LookPath(name)
		if err != nil {
			t.Logf("there is no client %s here", name)
			continue
		}
		clients++
		each(t, "by "+name, func(t *testing.T, flavour flavour) {
			dsn := flavour.database(t)
			f := open(t, dsn, mysql.Config{})
			execute(t, f, `CREATE TABLE orders (id INT PRIMARY KEY, amount INT) ENGINE=InnoDB`)
			c, err := mysqldriver.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			host, port, err := net.SplitHostPort(c.Addr)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), client, "--no-defaults", "--protocol=tcp", "--default-character-set=utf8mb4",
				"-h", host, "-P", port, "-u", c.User, c.DBName)
			cmd.Env = append(os.Environ(), "MYSQL_PWD="+c.Passwd)
			cmd.Stdin = strings.NewReader(strings.Join(statements, ""))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
			s := openSession(t, f)
			if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 0 {
				t.Errorf("Promote: got %+v, %v, an hour too early", p, err)
			}
			execute(t, f, `UPDATE outbox_delayed SET not_before = TIMESTAMPADD(HOUR, -1, not_before)`)
			if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 1 {
				t.Errorf("Promote: got %+v, %v, want the reminder", p, err)
			}
			records := fetchAll(t, s).Records
			if len(records) != 2 {
				t.Fatalf("Fetch: got %d records, want 2", len(records))
			}
			for i, want := range []core.Message{
				{Topic: "orders", Key: "42", Payload: []byte(`{"order": 42, "amount": 1999}`), Headers: map[string]string{"event-type": "OrderPlaced"}},
				{Topic: "reminders", Key: "42", Payload: []byte(`{"order": 42}`)},
			} {
				got := records[i].Message
				if got.Topic != want.Topic || got.Key != want.Key || string(got.Payload) != string(want.Payload) ||
					got.Headers["event-type"] != want.Headers["event-type"] || len(got.ID) != 36 || got.EnqueuedAt.IsZero() {
					t.Errorf("delivered is %+v, want %+v", got, want)
				}
			}
		})
	}
	if clients == 0 {
		t.Skip("needs a command-line client: apt-get install mariadb-client-core")
	}
}

// What the tables do not take.
func TestWhatTheTablesRefuse(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		for _, columns := range []string{
			`topic = ''`, `topic = 't', headers = '{a:1}'`, `topic = 't', headers = '[]'`, `topic = 't', headers = '1'`,
			"topic = 't', headers = '{'", "topic = 't', headers = ''", "topic = NULL", "topic = 't', `key` = NULL",
		} {
			for _, table := range []string{"outbox", "outbox_delayed"} {
				statement := fmt.Sprintf(`INSERT INTO %s SET %s, payload = ''`, table, columns)
				if table == "outbox_delayed" {
					statement += `, not_before = '2026-01-01'`
				}
				if _, err := f.DB.ExecContext(t.Context(), statement); err == nil {
					t.Errorf("accepted: %s", statement)
				}
			}
		}
	})
}

// The bucket of a key is the same in Go and in SQL, for writers in other languages, who lock it as docs/table.md says.
func TestTheKeyLocksBucketIsDocumented(t *testing.T) {
	_, spans := docs.TableSQL(t, "MySQL and MariaDB")
	lock := spans[slices.IndexFunc(spans, func(s string) bool { return strings.HasPrefix(s, "SELECT bucket FROM ") })]
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		var locked, got uint32
		err := f.DB.QueryRowContext(t.Context(), lock).Scan(&locked)
		if want := mysql.Bucket("orders", "42"); err != nil || locked != want {
			t.Errorf("%s: got the bucket %d, %v, want %d", lock, locked, err, want)
		}
		err = f.DB.QueryRowContext(t.Context(), `SELECT CRC32(CONCAT('orders', CHAR(0), 'é42')) % 4096`).Scan(&got)
		if want := mysql.Bucket("orders", "é42"); err != nil || got != want {
			t.Errorf("got the bucket %d, %v, want %d", got, err, want)
		}
		var buckets int
		if err := f.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox_key_lock WHERE bucket BETWEEN 0 AND 4095`).Scan(&buckets); err != nil || buckets != 4096 {
			t.Errorf("there are %d buckets (%v), want 4096", buckets, err)
		}
	})
}
