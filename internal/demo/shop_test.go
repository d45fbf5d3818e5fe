package demo

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// The two rollbacks must come from where the demo says they do: one from INSERT, one from COMMIT itself.
func TestOrdersFailWhereTheyAreMeantTo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shop.db")
	if err := createShop(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	dialect, err := sqlite.Open(file, sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	shop, err := openShop(t.Context(), dialect, "topic", nil)
	if err != nil {
		t.Fatal(err)
	}

	for _, o := range []struct {
		order
		want string
	}{
		{order{ID: "1", Customer: "nobody", Product: knownProduct}, "commit: "},
		{order{ID: "2", Customer: knownCustomer, Product: "nothing"}, "insert order: "},
	} {
		r := request{Order: o.order}
		err := shop.serve(t.Context(), r, lockstep)
		if err == nil || !strings.HasPrefix(err.Error(), o.want) || !strings.Contains(err.Error(), "FOREIGN KEY") {
			t.Errorf("order %s: got %v, want a foreign key's error that begins with %q", o.ID, err, o.want)
		}
		r.AddMissing = true
		if err := shop.serve(t.Context(), r, lockstep); err != nil {
			t.Errorf("order %s, after its customer and product were added: got %v, want nil", o.ID, err)
		}
	}
	var events int
	if err := dialect.DB().QueryRowContext(t.Context(), `SELECT count(*) FROM outbox`).Scan(&events); err != nil {
		t.Fatal(err)
	}
	if events != 2 {
		t.Errorf("got %d events in the outbox, want 2: the failed transactions must leave none", events)
	}
}
