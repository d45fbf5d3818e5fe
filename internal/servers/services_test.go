package servers_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// The servers run as users of their own, who cannot enter a clone in root's home.
func TestServicesOfAClosedTreeAreKeptElsewhere(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("scripts/services is for Linux")
	}
	tree := t.TempDir()
	if err := os.Chmod(filepath.Dir(tree), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(tree, "scripts"), os.DirFS("../../scripts")); err != nil {
		t.Fatal(err)
	}
	help := func(dir string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(tree, "scripts", "services"), "up", "--help")
		cmd.Env = append(os.Environ(), "LOCKSTEP_SERVICES_DIR="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	for _, tc := range []struct {
		mode      os.FileMode
		dir, want string
	}{
		{0o755, "", "now " + tree + "/.services\n"},
		{0o700, "", "now /var/lib/lockstep-services-"},
		{0o700, tree + "/here", "now " + tree + "/here\n"},
	} {
		if err := os.Chmod(tree, tc.mode); err != nil {
			t.Fatal(err)
		}
		if got := help(tc.dir); !strings.Contains(got, tc.want) {
			t.Errorf("mode %v, LOCKSTEP_SERVICES_DIR=%q: want %q in\n%s", tc.mode, tc.dir, tc.want, got)
		}
	}
}
