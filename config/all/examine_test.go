package all_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Each finding that doctor can make is seen here once, on a real server, beside what it does not say before the harm.

// examined opens a database, migrates it, and returns what doctor finds.
func examined(t *testing.T, address string) []config.Finding {
	t.Helper()
	dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{Prefix: "Shop_"})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	found, err := dialect.(config.Examiner).Examine(t.Context())
	if err != nil {
		t.Errorf("some was not found out: %v", err)
	}
	return found
}

// expectFinding expects one that says the words, and its cure to say what to do.
func expectFinding(t *testing.T, found []config.Finding, warning bool, problem, cure string) {
	t.Helper()
	for _, f := range found {
		if strings.Contains(f.Problem, problem) {
			if f.Warning != warning || !strings.Contains(f.Cure, cure) {
				t.Errorf("got %+v, want warning %v and %q in the cure", f, warning, cure)
			}
			return
		}
	}
	t.Errorf("got %+v, want one that says %q", found, problem)
}

func expectNone(t *testing.T, found []config.Finding, problem string) {
	t.Helper()
	for _, f := range found {
		if strings.Contains(f.Problem, problem) {
			t.Errorf("got %+v before the harm", f)
		}
	}
}

// with adds parameters to a URL.
func with(t *testing.T, address string, parameters ...string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	query := u.Query()
	for i := 0; i < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// pool is a way to do harm.
func pool(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

func TestFindingsOfPostgresSettings(t *testing.T) {
	address := servers.PostgresSchema(t)
	if found := examined(t, address); len(found) > 0 {
		t.Errorf("an untouched server: got %+v", found)
	}
	for _, tc := range []struct {
		parameter, value string
		warning          bool
		problem, cure    string
	}{
		{"synchronous_commit", "off", false, "synchronous_commit is off", "set synchronous_commit=on"},
		{"default_transaction_isolation", "serializable", true, "transactions are serializable by default", "read committed"},
		{"session_replication_role", "replica", true, "session_replication_role is replica", "unset session_replication_role"},
	} {
		expectFinding(t, examined(t, with(t, address, tc.parameter, tc.value)), tc.warning, tc.problem, tc.cure)
	}
}

func TestFindingsOfThePostgresServer(t *testing.T) {
	address := servers.PostgresSchema(t)
	expectNone(t, examined(t, address), "replication")
	// What the server counts as a standby is a connection that says so.
	conn, err := pool(t, "postgres", with(t, address, "replication", "database")).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	expectFinding(t, examined(t, address), true, "replication is asynchronous", "synchronous_standby_names")
}

// The servers of the tests have these settings on their command line, where nothing overrules them; so the settings are fake.
func TestFindingsOfHowPostgresWrites(t *testing.T) {
	expectNone(t, all.Writes("on", "on"), "fsync")
	expectFinding(t, all.Writes("off", "on"), false, "fsync is off and full_page_writes is on", "set fsync=on")
	expectFinding(t, all.Writes("on", "off"), false, "fsync is on and full_page_writes is off", "full_page_writes=on")
}

// waitFor waits for what another process of the server does.
func waitFor(t *testing.T, db *sql.DB, query string) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var ok bool
		if err := db.QueryRowContext(t.Context(), query).Scan(&ok); err != nil {
			t.Fatal(err)
		}
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 30 s", query)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at what the server shows in its own time
	}
}

func TestFindingsOfPostgresTables(t *testing.T) {
	address := servers.PostgresSchema(t)
	examined(t, address) // migrates
	db := pool(t, "postgres", address)
	execute(t, db, `ALTER TABLE "Shop_outbox" SET (autovacuum_enabled = off)`)
	expectFinding(t, examined(t, address), false, "autovacuum is off", "set autovacuum=on")
	execute(t, db, `ALTER TABLE "Shop_outbox" RESET (autovacuum_enabled)`)
	expectNone(t, examined(t, address), "autovacuum is off")
}

func TestFindingsOfPostgresThatTakeLong(t *testing.T) {
	address := servers.PostgresSchema(t)
	examined(t, address)
	db := pool(t, "postgres", address)
	execute(t, db, `ALTER TABLE "Shop_outbox" SET (autovacuum_enabled = on)`,
		`INSERT INTO "Shop_outbox" (topic, payload) SELECT 'orders', '' FROM generate_series(1, 40)`, `DELETE FROM "Shop_outbox"`)
	waitFor(t, db, `SELECT coalesce(bool_or(n_dead_tup >= 40), false) FROM pg_stat_all_tables WHERE relid = '"Shop_outbox"'::regclass`)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	gid := "lockstep doctor " + core.NewID()
	execute(t, db, "BEGIN; SELECT txid_current(); PREPARE TRANSACTION '"+gid+"'")
	defer execute(t, db, "ROLLBACK PREPARED '"+gid+"'")

	before := examined(t, address)
	expectNone(t, before, "a transaction is open")
	expectNone(t, before, "dead rows")
	expectNone(t, before, "prepared transaction")
	all.NothingMayWait(t)
	found := examined(t, address)
	expectFinding(t, found, true, " minutes (pid ", "pg_terminate_backend")
	expectFinding(t, found, true, "vacuum does not keep up", "end the oldest transaction")
	expectFinding(t, found, true, "is forgotten: its positions stay open", "ROLLBACK PREPARED")
}

func TestFindingOfAClock(t *testing.T) {
	for name, address := range map[string]func(t *testing.T) string{
		"postgres": func(t *testing.T) string { return servers.PostgresSchema(t) },
		"mysql":    func(t *testing.T) string { return servers.MySQLURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			address := address(t)
			expectNone(t, examined(t, address), "clock")
			all.ClockAhead(t, time.Minute)
			expectFinding(t, examined(t, address), true, "the database's clock and this machine's are ", "NTP")
		})
	}
}

func TestFindingsOfMySQL(t *testing.T) {
	for name, address := range map[string]func(t *testing.T) string{
		"mysql":   func(t *testing.T) string { return servers.MySQLURL(t) },
		"mariadb": func(t *testing.T) string { return servers.MariaDBURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			address := address(t)
			db, err := mysql.OpenDB(address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { db.Close() })
			for _, tc := range []struct {
				variable      string
				value         int
				warning       bool
				problem, cure string
			}{
				{"innodb_flush_log_at_trx_commit", 2, false, "innodb_flush_log_at_trx_commit is 2", "SET PERSIST innodb_flush_log_at_trx_commit = 1"},
				{"sync_binlog", 0, true, "sync_binlog is 0", "SET PERSIST sync_binlog = 1"},
				{"max_allowed_packet", 2 << 20, true, "max_allowed_packet is 2097152", "16 MiB or more"},
			} {
				var logging, before int
				if err := db.QueryRowContext(t.Context(), "SELECT @@global.log_bin, @@global."+tc.variable).Scan(&logging, &before); err != nil {
					t.Fatal(err)
				}
				if tc.variable == "sync_binlog" && logging == 0 {
					t.Log("sync_binlog: the server writes no binary log, and doctor asks for nothing then")
					continue
				}
				set := func(value int) { t.Helper(); execute(t, db, fmt.Sprintf("SET GLOBAL %s = %d", tc.variable, value)) }
				set(map[string]int{"innodb_flush_log_at_trx_commit": 1, "sync_binlog": 1, "max_allowed_packet": 64 << 20}[tc.variable])
				t.Cleanup(func() { set(before) })
				expectNone(t, examined(t, address), tc.variable)
				set(tc.value)
				expectFinding(t, examined(t, address), tc.warning, tc.problem, tc.cure)
			}
		})
	}
}

func TestFindingOfAnOpenMySQLTransaction(t *testing.T) {
	address := servers.MySQLURL(t)
	examined(t, address)
	db, err := mysql.OpenDB(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO Shop_outbox (topic, payload) VALUES ('orders', '')"); err != nil {
		t.Fatal(err)
	}
	expectNone(t, examined(t, address), "a transaction is open")
	all.NothingMayWait(t)
	// The server answers from a copy while it is asked more often than every 100 ms.
	seen := func() bool {
		var n int
		if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM information_schema.innodb_trx").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	for deadline := time.Now().Add(30 * time.Second); !seen() && time.Now().Before(deadline); {
		time.Sleep(200 * time.Millisecond) // the server makes its list anew only when nobody has read it for 0.1 s
	}
	expectFinding(t, examined(t, address), true, "a transaction is open for ", "KILL it")
}

func TestFindingsOfSQLite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shop.db")
	if found := examined(t, "sqlite:"+path); len(found) > 0 {
		t.Errorf("an untouched file: got %+v", found)
	}
	db := pool(t, "sqlite", path)
	execute(t, db, `INSERT INTO Shop_outbox (topic, payload) VALUES ('orders', x''), ('orders', x'')`, `UPDATE sqlite_sequence SET seq = 1`)
	found := examined(t, "sqlite:"+path)
	expectNone(t, found, "the WAL has")
	expectFinding(t, found, false, "the counter of positions stands at 1 and the outbox has 2", "UPDATE sqlite_sequence")
	if wal, err := os.Stat(path + "-wal"); err != nil || wal.Size() == 0 {
		t.Fatalf("there is no WAL: %v", err)
	}
	all.NothingMayWait(t)
	expectFinding(t, examined(t, "sqlite:"+path), true, "the WAL has", "end what reads without end")
}

// examinedTopics opens a broker and returns what doctor finds of topics.
func examinedTopics(t *testing.T, address string, topics ...config.WaitingTopic) ([]config.Finding, error) {
	t.Helper()
	broker, err := all.Registry().OpenBroker(config.NewURL(address), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.(interface{ Close() error }).Close()
	return broker.(config.TopicExaminer).ExamineTopics(t.Context(), topics)
}

func TestFindingsOfKafka(t *testing.T) {
	address, topic := servers.Kafka(t), servers.KafkaTopic(t, 1)
	set := func(name, value string) {
		t.Helper()
		transport := &kafkago.Transport{}
		defer transport.CloseIdleConnections()
		client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: transport, Timeout: 10 * time.Second}
		answer, err := client.IncrementalAlterConfigs(t.Context(), &kafkago.IncrementalAlterConfigsRequest{
			Resources: []kafkago.IncrementalAlterConfigsRequestResource{{
				ResourceType: kafkago.ResourceTypeTopic, ResourceName: topic,
				Configs: []kafkago.IncrementalAlterConfigsRequestConfig{{Name: name, Value: value, ConfigOperation: kafkago.ConfigOperationSet}},
			}},
		})
		if err == nil {
			err = answer.Resources[0].Error
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(warning bool, problem, cure string) {
		t.Helper()
		found, err := examinedTopics(t, "kafka://"+address, config.WaitingTopic{Name: topic, Largest: 100_001})
		if err != nil {
			t.Error(err)
		}
		expectFinding(t, found, warning, problem, cure)
	}
	expect(true, "has 1 replica(s) and min.insync.replicas=1", "three replicas")
	found, err := examinedTopics(t, "kafka://"+address, config.WaitingTopic{Name: topic, Largest: 100_001})
	if err != nil {
		t.Error(err)
	}
	expectNone(t, found, "takes messages of")
	set("max.message.bytes", "200000")
	expect(true, "takes messages of 200000 bytes, and an event may have 1000000", "max.message.bytes")
	set("max.message.bytes", "100000")
	expect(true, "takes messages of 100000 bytes, and one of 100001 waits", "max.message.bytes")
	set("min.insync.replicas", "2")
	expect(false, "has 1 replica(s) and min.insync.replicas=2: it takes no message", "below the number of replicas")
}

func TestFindingsOfRabbitMQ(t *testing.T) {
	found, err := examinedTopics(t, servers.RabbitMQ(t), config.WaitingTopic{Name: "orders", Largest: 17 << 20}, config.WaitingTopic{Name: "amq.default"})
	expectFinding(t, found, true, "RabbitMQ takes 16777216 by default", "max_message_size")
	if err == nil || !strings.Contains(err.Error(), "whether a queue is bound to orders: ") || !strings.Contains(err.Error(), "rabbitmqctl list_bindings") {
		t.Errorf("got %v, want it to say that bindings are not seen", err)
	}
}
