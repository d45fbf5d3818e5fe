package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/inbox"
)

func TestInbox(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) conformance.DialectFixture{
		"file": func(t *testing.T) conformance.DialectFixture {
			return fixture(t, filepath.Join(t.TempDir(), "50% off? #1.db"), "shop_")
		},
		"memory": func(t *testing.T) conformance.DialectFixture {
			return fixture(t, "file:/"+core.NewID()+"?vfs=memdb", "")
		},
		"the application's pool": func(t *testing.T) conformance.DialectFixture {
			path := filepath.Join(t.TempDir(), "outbox.db")
			f := fixture(t, path, "")
			f.DB = pool(t, "file:"+path+good)
			f.Begin = conformance.SQLFixture(f.Dialect, f.DB).Begin
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.TestInbox(t, open)
		})
	}
}

func TestInboxSetupErrors(t *testing.T) {
	t.Parallel()
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	box, err := inbox.New(d, inbox.Config{})
	if err != nil {
		t.Fatal(err)
	}
	err = box.Handle(t.Context(), d.DB(), "c", "a", func(context.Context, *sql.Tx) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "MigrateInbox") {
		t.Errorf("receive without a table: got %v, want what to do", err)
	}
	if _, err := d.DB().ExecContext(t.Context(), `CREATE TABLE inbox (subject text)`); err != nil {
		t.Fatal(err)
	}
	var setup *core.SetupError
	if err := d.MigrateInbox(t.Context()); !errors.As(err, &setup) || !strings.Contains(err.Error(), "is not an inbox") {
		t.Errorf("migrate what is a mailbox: got %v, want a SetupError", err)
	}
}
