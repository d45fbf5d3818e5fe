// Package servers gives tests the real servers they run against.
//
// The environment says where they are; `eval "$(scripts/services env)"` sets it, and `make test` does so by itself.
//
//	variable unset                      the test is skipped, and says how to run it
//	… but LOCKSTEP_TEST_REQUIRE asks    the test fails
//	variable set, server not answering  the test fails: a wrong address must not look like a missing server
//
// LOCKSTEP_TEST_REQUIRE is "all", or names from postgres, postgres18, pgbouncer, mysql, mariadb, rabbitmq and
// kafka separated by commas.
package servers

import (
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// RequireVariable names the environment variable that turns skips into failures.
const RequireVariable = "LOCKSTEP_TEST_REQUIRE"

// answerWithin bounds the first contact with a server. The servers are on this machine or on the next one, which may have much
// else to do. Only this package's own tests change it.
var answerWithin = 30 * time.Second

// TB is the part of testing.TB that this package uses.
type TB interface {
	Helper()
	Cleanup(f func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// server is one kind of server. contact parses the address and makes the first contact within the limit; its error
// never holds a password.
type server struct {
	name, variable string
	contact        func(dsn string, limit time.Duration) error
}

var all = []server{
	{"postgres", "LOCKSTEP_TEST_POSTGRES", contactPostgres},
	{"postgres18", "LOCKSTEP_TEST_POSTGRES18", contactPostgres},
	{"pgbouncer", "LOCKSTEP_TEST_PGBOUNCER", contactPostgres},
	{"mysql", "LOCKSTEP_TEST_MYSQL", contactMySQL},
	{"mariadb", "LOCKSTEP_TEST_MARIADB", contactMySQL},
	{"rabbitmq", "LOCKSTEP_TEST_RABBITMQ", contactRabbitMQ},
	{"kafka", "LOCKSTEP_TEST_KAFKA", contactKafka},
}

// Postgres returns the address of a PostgreSQL server as a postgres:// URL.
func Postgres(t TB) string {
	t.Helper()
	return address(t, "postgres")
}

// Postgres18 returns the address of a PostgreSQL 18 server as a postgres:// URL.
func Postgres18(t TB) string {
	t.Helper()
	return address(t, "postgres18")
}

// PgBouncer returns the address of a PgBouncer that pools the transactions of the server of [Postgres].
func PgBouncer(t TB) string {
	t.Helper()
	return address(t, "pgbouncer")
}

// PgBouncerMode is PgBouncer with a pool of its own in a mode: session, transaction or statement.
func PgBouncerMode(t TB, mode string) string {
	t.Helper()
	u, err := url.Parse(PgBouncer(t))
	if err != nil {
		t.Fatalf("the address of PgBouncer cannot be parsed")
	}
	u.Path += "_" + mode
	return u.String()
}

// MySQL returns the address of a MySQL server in the form of go-sql-driver/mysql.
func MySQL(t TB) string {
	t.Helper()
	return address(t, "mysql")
}

// MariaDB returns the address of a MariaDB server in the form of go-sql-driver/mysql.
func MariaDB(t TB) string {
	t.Helper()
	return address(t, "mariadb")
}

// RabbitMQ returns the address of a RabbitMQ server as an amqp:// URL.
func RabbitMQ(t TB) string {
	t.Helper()
	return address(t, "rabbitmq")
}

// Kafka returns the host:port of a Kafka broker.
func Kafka(t TB) string {
	t.Helper()
	return address(t, "kafka")
}

func address(t TB, name string) string {
	t.Helper()
	s := all[slices.IndexFunc(all, func(s server) bool { return s.name == name })]
	dsn := os.Getenv(s.variable)
	needs(t, name)
	if dsn == "" {
		missing(t, s.variable, name)
	}
	if err := contacted(s, dsn); err != nil {
		t.Fatalf("%s: %v", s.variable, err)
	}
	return dsn
}

// missing ends a test that needs the server of that name and has not been told the variable.
func missing(t TB, variable, name string) {
	t.Helper()
	const cure = "start the servers and name them with `eval \"$(scripts/services env)\"`, or run `make test`"
	if needs(t, name) {
		t.Fatalf("%s is not set and %s=%s asks for %s: %s", variable, RequireVariable, os.Getenv(RequireVariable), name, cure)
	}
	t.Skipf("%s is not set: %s", variable, cure)
}

// needs reports whether the environment asks for the server of that name, and fails the test when it asks for one that
// does not exist.
func needs(t TB, name string) bool {
	t.Helper()
	value := strings.TrimSpace(os.Getenv(RequireVariable))
	if value == "" || value == "all" {
		return value == "all"
	}
	names := strings.Split(value, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
	}
	for _, n := range names {
		if !known(n) {
			t.Fatalf("%s=%s: there is no server %q; want all, or names from %s separated by commas",
				RequireVariable, value, n, allNames())
		}
	}
	return slices.Contains(names, name)
}

func known(name string) bool {
	return slices.ContainsFunc(all, func(s server) bool { return s.name == name })
}

func allNames() string {
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// contacts remembers the first contact with each address for the life of the test binary. A hundred tests ask once,
// and wait once where nobody answers.
var contacts sync.Map // variable=dsn → func() error

func contacted(s server, dsn string) error {
	once, _ := contacts.LoadOrStore(s.variable+"="+dsn, sync.OnceValue(func() error {
		return s.contact(dsn, answerWithin)
	}))
	return once.(func() error)()
}
