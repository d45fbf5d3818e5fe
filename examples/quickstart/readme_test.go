//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The README's quick starts are done by bash as they stand, until the relay has printed the event: those for PostgreSQL and MySQL but
// for the one program that it names in the place of the other, that for SQLite but for the line that installs a release.
func TestTheREADMEsQuickStarts(t *testing.T) {
	program := filepath.Join(t.TempDir(), "lockstep")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/lockstep").CombinedOutput(); err != nil {
		t.Fatalf("build lockstep: %v\n%s", err, out)
	}
	const named = "./examples/quickstart/postgres"
	t.Run("postgres", func(t *testing.T) {
		do(t, program, "../..", commands(t, "quickstart", named), "DATABASE="+servers.PostgresSchema(t))
	})
	t.Run("mysql", func(t *testing.T) {
		other := "./examples/quickstart/mysql"
		script := commands(t, "quickstart", other)
		do(t, program, "../..", strings.Replace(script, named, other, 1), "DATABASE="+servers.MySQLURL(t))
	})
	t.Run("sqlite", func(t *testing.T) {
		if _, err := exec.LookPath("sqlite3"); err != nil {
			t.Skip("needs SQLite's command-line client: apt-get install sqlite3")
		}
		install, script, _ := strings.Cut(commands(t, "program", "sqlite3"), "\n")
		if !strings.HasPrefix(install, "go install ") {
			t.Errorf("the block begins with %q, want the line that installs the program, and nothing else is left out", install)
		}
		do(t, program, t.TempDir(), script)
	})
}

// do runs a script in a folder, where the program is found by its name.
func do(t *testing.T, program, dir, script string, variables ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", script)
	cmd.Dir = dir
	cmd.Env = slices.Concat(os.Environ(), variables, []string{
		"LOCKSTEP_LISTEN=off", "PATH=" + filepath.Dir(program) + string(os.PathListSeparator) + os.Getenv("PATH"),
	})
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	delivered := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		t.Log(lines.Text())
		if strings.Contains(lines.Text(), `"topic":"orders"`) && strings.Contains(lines.Text(), `a book`) {
			delivered = true
			// What Control-C does. The relay drains, and so its output ends.
			if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
				t.Error(err)
			}
		}
	}
	err = cmd.Wait()
	if !delivered {
		t.Errorf("the event was not delivered; %v", err)
	}
}

// commands returns the README's block of that name, which mentions a word.
func commands(t *testing.T, name, word string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := docs.Parse("README.md", string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if b.Language == "sh" && b.Rest == name && strings.Contains(b.Text, word) {
			return b.Text
		}
	}
	t.Fatalf("the README has no block %q with %s", name, word)
	return ""
}
