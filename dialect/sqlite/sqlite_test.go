package sqlite_test

import (
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

func open(t testing.TB, path string, config sqlite.Config) *sqlite.Dialect {
	t.Helper()
	d, err := sqlite.Open(path, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := d.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

// fixture is an outbox at path, which another dialect archives, and which a third has as another process would.
func fixture(t *testing.T, path, prefix string) conformance.DialectFixture {
	t.Helper()
	d := open(t, path, sqlite.Config{Prefix: prefix})
	f := conformance.SQLFixture(d, d.DB())
	f.Archiving = opened(t, path, sqlite.Config{Prefix: prefix, Archive: []string{"*"}})
	f.Elsewhere = opened(t, path, sqlite.Config{Prefix: prefix})
	f.NoServer = true
	return f
}

func TestConformance(t *testing.T) {
	t.Parallel()
	conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
		return fixture(t, filepath.Join(t.TempDir(), "50% off? #1.db"), "")
	})
}

func TestConformanceInMemory(t *testing.T) {
	for name, uri := range map[string]string{
		"memdb":        "file:/NAME?vfs=memdb",
		"shared cache": "file:NAME?mode=memory&cache=shared",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.TestDialect(t, func(t *testing.T) conformance.DialectFixture {
				return fixture(t, strings.Replace(uri, "NAME", core.NewID(), 1), "")
			})
		})
	}
}

func TestCommitsAreSynced(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	var synchronous int
	var journal string
	if err := d.DB().QueryRow("PRAGMA synchronous").Scan(&synchronous); err != nil {
		t.Fatal(err)
	}
	if err := d.DB().QueryRow("PRAGMA journal_mode").Scan(&journal); err != nil {
		t.Fatal(err)
	}
	if synchronous != 2 || journal != "wal" {
		t.Errorf("synchronous is %d and journal_mode %s, want 2 (FULL) and wal", synchronous, journal)
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		path, names string
		config      sqlite.Config
	}{
		"no path":             {"", "path", sqlite.Config{}},
		"in memory":           {":memory:", "path", sqlite.Config{}},
		"in nameless memory":  {"file::memory:", "path", sqlite.Config{}},
		"in private memory":   {"file:x?mode=memory", "path", sqlite.Config{}},
		"in private memdb":    {"file:x?vfs=memdb", "path", sqlite.Config{}},
		"a shared file":       {"file:x.db?cache=shared", "cache=shared", sqlite.Config{}},
		"settings of its own": {"file:x.db?_pragma=synchronous(OFF)", "_pragma", sqlite.Config{}},
		"bad URI":             {"file:x.db?%zz", "parameters", sqlite.Config{}},
		"prefix":              {"x.db", "Prefix", sqlite.Config{Prefix: `"; DROP TABLE orders`}},
		"archived topic":      {"x.db", "Archive", sqlite.Config{Archive: []string{"a", ""}}},
	} {
		d, err := sqlite.Open(tt.path, tt.config)
		if err == nil || !strings.Contains(err.Error(), tt.names) {
			t.Errorf("%s: Open: got %v, want an error that names %s", name, err, tt.names)
		}
		if d != nil {
			d.Close()
		}
	}
}

// What Go cannot decode must not get in; and if it does, through a program that turned the checks off, it must hold back
// nobody.
func TestHeadersThatAreNotJSONHoldBackNobody(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	insert := func(headers string) error {
		_, err := d.DB().ExecContext(t.Context(), `INSERT INTO outbox (topic, headers, payload) VALUES ('t', ?, x'')`, headers)
		return err
	}
	bad := []string{"{a:1}", "{'a':'1'}", "[]", "{", ""}
	for _, headers := range bad {
		if err := insert(headers); err == nil {
			t.Errorf("headers %q were accepted, want a CHECK to refuse them", headers)
		}
	}
	if _, err := d.DB().ExecContext(t.Context(), `PRAGMA ignore_check_constraints = ON`); err != nil {
		t.Fatal(err)
	}
	for _, headers := range append(bad, `{"a": "1"}`) {
		if err := insert(headers); err != nil {
			t.Fatal(err)
		}
	}
	session, err := d.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	result, err := session.Fetch(t.Context(), core.FetchRequest{Limit: 10, MaxBytes: 1 << 20})
	if err != nil || len(result.Records) != len(bad)+1 {
		t.Fatalf("Fetch: got %d records and %v, want %d and nil", len(result.Records), err, len(bad)+1)
	}
	for i, r := range result.Records {
		want := map[string]string{"a": "1"}
		if i < len(bad) {
			want = map[string]string{"lockstep-undecodable-headers": bad[i]}
		}
		if !maps.Equal(r.Message.Headers, want) {
			t.Errorf("record %d: got the headers %q, want %q", i, r.Message.Headers, want)
		}
	}
}
