package all_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// pooled examines an outbox through address, and returns what is said of poolers, unknowns included.
func pooled(t *testing.T, address, schema string) []config.Finding {
	t.Helper()
	dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{Prefix: "Shop_", Schema: schema})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	found, err := dialect.(config.Examiner).Examine(t.Context())
	var said []config.Finding
	for _, f := range found {
		if strings.Contains(f.Problem, "pooler") || strings.Contains(f.Problem, "LISTEN") {
			said = append(said, f)
		}
	}
	if err != nil {
		said = append(said, config.Finding{Problem: err.Error()})
	}
	return said
}

// PgBouncer's console tells its mode, and where it does not, what it does.
func TestFindingOfAPooler(t *testing.T) {
	address := servers.PostgresSchema(t)
	examined(t, address) // migrates
	server, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	schema := server.Query().Get("search_path")
	transaction, session, statement := servers.PgBouncerMode(t, "transaction"), servers.PgBouncerMode(t, "session"), servers.PgBouncerMode(t, "statement")
	with := func(address, listen string) string { return with(t, address, "listen_host", listen) }
	hostOf := func(address string) string { u, _ := url.Parse(address); return u.Host }

	const (
		polling = "so that LISTEN hears nothing: commits in other processes are found by polling alone"
		unseen  = "whether the pooler keeps one process of the server for a connection, as LISTEN needs (PgBouncer: pool_mode=session): list the user in its stats_users, or add listen_host="
	)
	for _, tc := range []struct {
		name, address      string
		console, behaviour string // what is said, in part; "" is nothing
		problem            bool
		cure               string
	}{
		{"none", address, "", "", false, ""},
		{"none, twice", with(address, server.Host), "", "", false, ""},
		{"transaction", transaction, "pool_mode=transaction), " + polling, "pool_mode=transaction), " + polling, false, "add listen_host=HOST:PORT"},
		// The server does not know the names that a pooler gives to databases.
		{"transaction, listening to the server", with(servers.PgBouncer(t), server.Host), "", "", false, ""},
		{"transaction, listening to the same", with(transaction, hostOf(transaction)), "the pooler at listen_host gives", "the pooler at listen_host gives", false, "add listen_host=HOST:PORT"},
		{"transaction, listening to a server without the database", with(transaction, server.Host), `database "lockstep_transaction" does not exist`, `"lockstep_transaction" does not exist`, false, "listen_host"},
		{"transaction, listening to nobody", with(transaction, "127.0.0.1:1"), "listen_host cannot be reached", "listen_host cannot be reached", false, "listen_host"},
		{"session", session, "", unseen, true, ""},
		{"statement", statement, "refuses transactions (PgBouncer: pool_mode=statement)", "refuses transactions (PgBouncer: pool_mode=statement)", true, "pool_mode=transaction or pool_mode=session"},
		{"statement, listening elsewhere", with(statement, server.Host), "refuses transactions", "refuses transactions", true, "pool_mode=transaction"},
	} {
		check := func(how, want string) {
			t.Helper()
			said := pooled(t, tc.address, schema)
			switch {
			case want == "" && len(said) == 0:
			case want == "" || len(said) != 1 || !strings.Contains(said[0].Problem, want) || said[0].Warning == tc.problem || !strings.Contains(said[0].Cure, tc.cure):
				t.Errorf("%s, %s: got %+v, want %q, a warning: %v, and %q in the cure", tc.name, how, said, want, !tc.problem, tc.cure)
			}
		}
		check("by the console", tc.console)
		t.Run(tc.name, func(t *testing.T) {
			all.NoConsole(t)
			check("by behaviour", tc.behaviour)
		})
	}
}
