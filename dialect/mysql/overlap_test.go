package mysql_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// Two relays overlap: one is about to commit that it removed an event, the other does something with that event as well. What
// the second one copies must be what it removes, which is nothing: a read that does not wait copies the event all the same,
// and then it is delivered and dead, or dead and kept.
func TestWhatAnotherRelayRemovesIsNotCopied(t *testing.T) {
	ref := core.Ref{Position: 1, ID: "a"}
	for name, tt := range map[string]struct {
		call   func(t *testing.T, s core.Session) error
		copies string
	}{
		"Bury": {func(t *testing.T, s core.Session) error {
			return s.Bury(t.Context(), []core.Burial{{Ref: ref, Attempts: 1, Cause: "c"}})
		}, `SELECT (SELECT COUNT(*) FROM outbox_dead) + (SELECT COUNT(*) FROM outbox_blocked)`},
		"Acknowledge": {func(t *testing.T, s core.Session) error {
			return s.Acknowledge(t.Context(), []core.Ref{ref})
		}, `SELECT COUNT(*) FROM outbox_archive`},
	} {
		each(t, name, func(t *testing.T, flavour flavour) {
			f := open(t, flavour.database(t), mysql.Config{})
			enqueued(t, f, core.Message{ID: "a", Topic: "t", Key: "k"})
			s := openSession(t, conformance.DialectFixture{Dialect: f.Archiving})
			other, err := f.DB.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer other.Rollback()
			if _, err := other.ExecContext(t.Context(), `DELETE FROM outbox WHERE position = 1 AND id = 'a'`); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- tt.call(t, s) }()
			eventually(t, "the call waits for the other relay", func() bool { return status(t, f.DB, "Innodb_row_lock_current_waits") > 0 })
			if err := other.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatalf("%s of an event that has gone: %v", name, err)
			}
			var copies int
			if err := f.DB.QueryRowContext(t.Context(), tt.copies).Scan(&copies); err != nil || copies != 0 {
				t.Errorf("%s of an event that another relay removed meanwhile: %d copies of it, %v, want none", name, copies, err)
			}
		})
	}
}
