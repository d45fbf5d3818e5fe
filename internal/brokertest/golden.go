package brokertest

import (
	"os"
	"testing"
)

// Golden holds got against the file at path, which it writes anew where update says so.
func Golden(t *testing.T, path, got string, update bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s does not hold\n%s\nread it, and write it anew with -update", path, got)
	}
}
