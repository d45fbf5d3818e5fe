package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// What was done before somebody said no, or an error came, is told; what was not done is told of its outbox alone.
func TestAMigrationThatEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ answers, bank, want string }{
		"declined": {"y\nn\n", "bank.db", "outbox bank: nothing was done"},
		"failed":   {"y\ny\n", "nowhere/bank.db", "outbox bank: "},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "lockstep.yaml")
		content := "outboxes:\n- {name: shop, database: 'sqlite:" + dir + "/shop.db'}\n- {name: bank, database: 'sqlite:" + dir + "/" + tc.bank + "'}\n"
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		root, stdout := newRoot(), &bytes.Buffer{}
		root.SetArgs([]string{"migrate", "--json", "--config", file})
		root.SetIn(iotest.OneByteReader(strings.NewReader(tc.answers))) // a terminal gives each question its line
		root.SetOut(stdout)
		root.SetErr(&bytes.Buffer{})
		if err := root.ExecuteContext(t.Context()); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
		var done migrated
		if err := json.Unmarshal(stdout.Bytes(), &done); err != nil {
			t.Errorf("%s: got %q: %v", name, stdout, err)
		}
		if want := []migration{{Outbox: "shop", Changed: true}}; !slices.Equal(done.Outboxes, want) {
			t.Errorf("%s: got %v done, want %v", name, done.Outboxes, want)
		}
	}
}
