package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// expectFault fails the test unless err is a core.SetupError whose text holds want.
func expectFault(t *testing.T, err error, want string) {
	t.Helper()
	var fault *core.SetupError
	if !errors.As(err, &fault) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want a SetupError that says %q", err, want)
	}
}

// opened is a dialect without Migrate.
func opened(t *testing.T, path string, config sqlite.Config) *sqlite.Dialect {
	t.Helper()
	d, err := sqlite.Open(path, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func execute(t *testing.T, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatal(err)
	}
}

func TestCheckAcceptsAMigratedFile(t *testing.T) {
	for _, path := range []string{filepath.Join(t.TempDir(), "outbox.db"), "file:/" + core.NewID() + "?vfs=memdb"} {
		if err := open(t, path, sqlite.Config{}).Check(t.Context()); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// What is wrong with a file, in the order in which an operator meets it. Check and Open say the same.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	for name, tt := range map[string]struct {
		breaks string
		want   string
	}{
		"nothing there":  {`DROP TABLE outbox_control`, "no table outbox_control): run Migrate"},
		"no control row": {`DELETE FROM outbox_control`, "run Migrate"},
		"missing table":  {`DROP TABLE outbox_blocked`, "these are missing: outbox_blocked"},
		"missing index":  {`DROP INDEX outbox_delayed_due`, "these are missing: outbox_delayed_due"},
		"old schema":     {`UPDATE outbox_control SET schema_version = 1`, "has schema version 1 and this program needs 2: run Migrate"},
		"new schema":     {`UPDATE outbox_control SET schema_version = 9`, "version 9, and this program knows only up to 2: update"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
			execute(t, d.DB(), tt.breaks)
			expectFault(t, d.Check(t.Context()), tt.want)
			_, err := d.Open(t.Context())
			expectFault(t, err, tt.want)
		})
	}
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	execute(t, d.DB(), `UPDATE outbox_control SET schema_version = 9`)
	expectFault(t, d.Migrate(t.Context()), "update this program")
}

func TestCheckOfWhatIsNoDatabase(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("this is a text, and long enough. ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	expectFault(t, opened(t, path, sqlite.Config{}).Check(t.Context()), "no SQLite database")
	expectFault(t, opened(t, path, sqlite.Config{}).Migrate(t.Context()), "no SQLite database")
	expectFault(t, opened(t, filepath.Join(t.TempDir(), "no", "such", "outbox.db"), sqlite.Config{}).Check(t.Context()), "the directory exists")
}

// Another program took the file out of WAL mode, and holds it so that it cannot be put back.
func TestCheckOfAFileThatIsNotInWALMode(t *testing.T) {
	d := open(t, "file:/"+core.NewID()+"?vfs=memdb", sqlite.Config{})
	if err := sqlite.CheckJournal(t.Context(), d); err == nil {
		t.Error("a database in memory passes for a file in WAL mode")
	} else {
		expectFault(t, err, "journal mode is memory")
	}
}

func TestCheckBesideAProcessThatHoldsTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	d := open(t, path, sqlite.Config{})
	holder := startChild(t, order{Do: "hold", Path: path})
	holder.line(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // in which it has asked
	defer cancel()
	expectFault(t, d.Check(ctx), "another process has a write transaction open")
	holder.end(t)
	if err := d.Check(t.Context()); err != nil {
		t.Errorf("Check once it is gone: %v", err)
	}
}

// Root may write everything, so another user looks.
func TestCheckWithoutTheRightToWrite(t *testing.T) {
	var nobody *syscall.Credential
	if os.Getuid() == 0 {
		nobody = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
	program := forEverybody(t)
	for name, tt := range map[string]struct {
		file, dir os.FileMode
		want      string
	}{
		"read-only file":      {0o444, 0o777, "cannot be written"},
		"read-only directory": {0o666, 0o555, "directory"},
		"no right at all":     {0o000, 0o777, "cannot be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDir(t)
			path := filepath.Join(dir, "outbox.db")
			d, err := sqlite.Open(path, sqlite.Config{})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.Migrate(t.Context()), d.Close()); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Chmod(path, tt.file), os.Chmod(dir, tt.dir)); err != nil {
				t.Fatal(err)
			}
			a := startProgram(t, program, order{Do: "check", Path: path}, nobody).end(t)
			if a.Fault == "" || !strings.Contains(a.Fault, tt.want) {
				t.Errorf("Check: got the fault %q of %q, want one that says %q", a.Fault, a.Error, tt.want)
			}
		})
	}
}

// openDir is a directory that other users can enter: t.TempDir's parents are its user's alone.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "lockstep-sqlite-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// forEverybody returns a copy of this program that other users can run.
func forEverybody(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(openDir(t), "program")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOldLibrariesAreRefused(t *testing.T) {
	for version, ok := range map[string]bool{"3.36.0": false, "2.99.9": false, "3.37.0": true, "3.53.1": true, "4.0.0": true, "soon": false} {
		if err := sqlite.LibraryFault(version); (err == nil) != ok {
			t.Errorf("SQLite %s: got %v", version, err)
		}
	}
}

func TestMigrateMayRunManyTimesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	var children []*child
	for range 3 {
		children = append(children, startChild(t, order{Do: "migrate", Path: path}))
	}
	var group sync.WaitGroup
	for range 8 {
		d := opened(t, path, sqlite.Config{})
		group.Go(func() {
			if err := d.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, c := range children {
		if a := c.end(t); a.Error != "" {
			t.Errorf("Migrate in another process: %s", a.Error)
		}
	}
	if err := opened(t, path, sqlite.Config{}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// firstVersion is the schema as the first migration leaves it.
func firstVersion(d *sqlite.Dialect) string {
	first, _, _ := strings.Cut(d.Schema(), "-- 0002")
	return first
}

// What an outbox holds when it is migrated is still there afterwards.
func TestMigrateFromTheFirstVersion(t *testing.T) {
	d := opened(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{Prefix: "shop_"})
	execute(t, d.DB(), firstVersion(d))
	execute(t, d.DB(), `INSERT INTO shop_outbox (id, topic, key, payload) VALUES ('a', 't', 'k', x'00'), ('b', 't', 'other', x'00');
INSERT INTO shop_outbox_blocked (topic, key, position) VALUES ('t', 'k', 7);`)
	expectFault(t, d.Check(t.Context()), "run Migrate")
	var before, after string
	const uuid = `SELECT outbox FROM shop_outbox_control`
	if err := d.DB().QueryRow(uuid).Scan(&before); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(d.Check(t.Context()), d.DB().QueryRow(uuid).Scan(&after)); err != nil {
		t.Fatal(err)
	}
	if before != after || len(before) != len(core.NewID()) {
		t.Errorf("the outbox's UUID went from %q to %q", before, after)
	}
	s := openSession(t, d)
	expectFetch(t, s, "b")
	if ok, err := s.Unblock(t.Context(), "t", "k"); err != nil || !ok {
		t.Errorf("Unblock: got %v, %v, want true", ok, err)
	}
}

// Whoever keeps the schema with another tool gets the same outbox as from Migrate.
func TestSchemaIsWhatMigrateExecutes(t *testing.T) {
	dir := t.TempDir()
	ours := open(t, filepath.Join(dir, "migrated.db"), sqlite.Config{})
	theirs := opened(t, filepath.Join(dir, "by hand.db"), sqlite.Config{})
	execute(t, theirs.DB(), theirs.Schema())
	if err := errors.Join(theirs.Check(t.Context()), theirs.Migrate(t.Context())); err != nil {
		t.Fatal(err)
	}
	const objects = `SELECT name || ': ' || ifnull(sql, '') FROM sqlite_schema ORDER BY name`
	got, want := query(t, theirs.DB(), objects), query(t, ours.DB(), objects)
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGrantsAreAComment(t *testing.T) {
	d := opened(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	grants := d.Grants("shop\nDROP TABLE orders", "relay")
	for line := range strings.Lines(grants) {
		if !strings.HasPrefix(line, "-- ") {
			t.Errorf("%q is no comment", line)
		}
	}
	execute(t, d.DB(), grants)
}
