package postgres_test

import (
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// psql runs statements by the server's own client, as the role that dsn names, with options of the server's.
func psql(t *testing.T, dsn, options, statements string) (string, error) {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	schema := u.Query().Get("search_path")
	u.RawQuery = "sslmode=disable"
	cmd := exec.CommandContext(t.Context(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", u.String())
	cmd.Env = append(os.Environ(), "PGOPTIONS=-c search_path="+schema+" "+options)
	cmd.Stdin = strings.NewReader(statements)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// What docs/table.md shows is done by psql, as a role that may INSERT and nothing else, and delivered by a session.
func TestTableAsDocumented(t *testing.T) {
	t.Parallel()
	dsn := servers.PostgresSchema(t)
	if _, err := exec.LookPath("psql"); err != nil {
		t.Skip("psql is not installed: scripts/services install postgres brings it")
	}
	f := open(t, dsn, postgres.Config{})
	application := role(t, f, "app")
	execute(t, f, `CREATE TABLE orders (id integer, amount integer)`, `GRANT INSERT ON orders TO `+application,
		f.Dialect.(*postgres.Dialect).Grants(application, ""))
	woke, _ := listening(t, f.Dialect.(*postgres.Dialect))
	blocks, _ := docs.TableSQL(t, "PostgreSQL")
	if len(blocks) != 4 {
		t.Fatalf("docs/table.md has %d blocks of SQL for PostgreSQL, and this test knows 4", len(blocks))
	}
	for _, block := range blocks {
		if out, err := psql(t, as(t, dsn, application), "", block); err != nil {
			t.Fatalf("%s: %v: %s", block, err, out)
		}
	}
	<-woke // by the last block
	s := openSession(t, f)
	if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 0 {
		t.Errorf("Promote: got %+v, %v, an hour too early", p, err)
	}
	execute(t, f, `UPDATE outbox_delayed SET not_before = not_before - interval '1 hour'`)
	if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 1 {
		t.Errorf("Promote: got %+v, %v, want the delayed event", p, err)
	}
	var got []string
	for _, r := range fetchAll(t, s).Records {
		m := r.Message
		got = append(got, m.Topic+" "+m.Key+" "+m.Headers["event-type"]+" "+string(m.Payload))
		if m.ID == "" || m.EnqueuedAt.IsZero() {
			t.Errorf("the message %+v lacks its id or its time", m)
		}
	}
	want := []string{`orders 42 OrderPlaced {"order": 42, "amount": 1999}`, `orders 42  {"order": 42, "paid": true}`, `reminders 42  {"order": 42}`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the outbox holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// The lock is the one that this package takes.
	tx, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if err := f.Dialect.(core.KeyLocker).LockKeys(t.Context(), tx, []core.Message{{Topic: "orders", Key: "42"}}); err != nil {
		t.Fatal(err)
	}
	out, err := psql(t, as(t, dsn, application), "-c lock_timeout=100ms", blocks[2])
	if err == nil || !strings.Contains(out, "lock timeout") {
		t.Errorf("the documented key lock beside LockKeys of the same key: got %v, %q, want that it waits", err, out)
	}
}
