package sqlite_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/docs"
)

// An application in another language does what docs/table.md shows; here it is SQLite's own client, of whatever version
// the machine has.
func TestWhatTheDocumentationInsertsIsDelivered(t *testing.T) {
	client, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("needs SQLite's command-line client: apt-get install sqlite3")
	}
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	execute(t, d.DB(), `CREATE TABLE orders (id INTEGER PRIMARY KEY, amount INTEGER)`)
	cmd := exec.CommandContext(t.Context(), client, "-bail", path)
	statements, _ := docs.TableSQL(t, "SQLite")
	cmd.Stdin = strings.NewReader(strings.Join(statements, ""))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	s := openSession(t, d)
	if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 0 {
		t.Errorf("Promote: got %+v, %v, an hour too early", p, err)
	}
	execute(t, d.DB(), `UPDATE outbox_delayed SET not_before = not_before - 3600000`)
	if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 1 {
		t.Errorf("Promote: got %+v, %v, want the reminder", p, err)
	}
	result, err := s.Fetch(t.Context(), everything)
	if err != nil || len(result.Records) != 2 {
		t.Fatalf("Fetch: got %d records, %v, want 2", len(result.Records), err)
	}
	for i, want := range []core.Message{
		{Topic: "orders", Key: "42", Payload: []byte(`{"order": 42, "amount": 1999}`), Headers: map[string]string{"event-type": "OrderPlaced"}},
		{Topic: "reminders", Key: "42", Payload: []byte(`{"order": 42}`)},
	} {
		got := result.Records[i].Message
		if got.Topic != want.Topic || got.Key != want.Key || string(got.Payload) != string(want.Payload) ||
			got.Headers["event-type"] != want.Headers["event-type"] || len(got.ID) != 32 || got.EnqueuedAt.IsZero() {
			t.Errorf("delivered is %+v, want %+v", got, want)
		}
	}
	if orders := query(t, d.DB(), `SELECT amount FROM orders`); len(orders) != 1 || orders[0] != "1999" {
		t.Errorf("the orders are %v, want one of 1999", orders)
	}
}

// What the table does not take, for a reason that the client is told.
func TestTheTableRefuses(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	for name, tt := range map[string]struct{ insert, want string }{
		"no topic":        {`INSERT INTO outbox (payload) VALUES (x'00')`, "outbox.topic"},
		"empty topic":     {`INSERT INTO outbox (topic, payload) VALUES ('', x'00')`, "topic <> ''"},
		"no payload":      {`INSERT INTO outbox (topic) VALUES ('t')`, "outbox.payload"},
		"text as payload": {`INSERT INTO outbox (topic, payload) VALUES ('t', '{}')`, "cannot store TEXT value in BLOB column outbox.payload"},
		"NULL as key":     {`INSERT INTO outbox (topic, key, payload) VALUES ('t', NULL, x'00')`, "outbox.key"},
	} {
		if _, err := d.DB().ExecContext(t.Context(), tt.insert); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want an error that names %s", name, err, tt.want)
		}
	}
}
