package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
)

// The whole contract, and then the promises, with a broker in memory whose harm the suite brings along.
func TestConformance(t *testing.T) { conformance.TestDialect(t, open) }

func TestPair(t *testing.T) {
	conformance.TestPair(t, open, func(*testing.T) conformance.BrokerFixture {
		r := &conformance.Recorder{}
		return conformance.RecorderFixture(r, r.Client(conformance.ClientConfig{}))
	})
}

// open is an outbox in a file of its own. SQLite has one writer, and its outage is that another process holds the write lock.
// What could be killed are the processes that have the file open. That is left out here (internal/matrix does it), so
// the report of TestPair says that what an application leaves that dies before COMMIT, or before its answer, is not exercised,
// and what all of them leave that die at once.
func open(t *testing.T) conformance.DialectFixture {
	path := filepath.Join(t.TempDir(), "shop.db")
	d, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	f := conformance.SQLFixture(d, d.DB())
	f.NoServer = true
	f.Outage = func() (heal func(), err error) {
		tx, err := d.DB().Begin()
		if err != nil {
			return nil, err
		}
		return func() {
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
		}, nil
	}
	return f
}

func TestItRuns(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	if got, want := string(out), "received a book\nreceived a pen\n"; err != nil || got != want {
		t.Errorf("go run .: got %q and %v, want %q", got, err, want)
	}
}
