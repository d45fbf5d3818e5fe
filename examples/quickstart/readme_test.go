//go:build unix

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// The README's quick starts for PostgreSQL and MySQL are done by bash as they stand, but for the one program that it names in the
// place of the other, until the relay has printed the event.
func TestTheREADMEsQuickStarts(t *testing.T) {
	program := filepath.Join(t.TempDir(), "lockstep")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../../cmd/lockstep").CombinedOutput(); err != nil {
		t.Fatalf("build lockstep: %v\n%s", err, out)
	}
	t.Run("postgres", func(t *testing.T) { do(t, program, "postgres", servers.PostgresSchema(t)) })
	t.Run("mysql", func(t *testing.T) { do(t, program, "mysql", servers.MySQLURL(t)) })
}

// do runs the README's quick start with the program of that name.
func do(t *testing.T, program, name, database string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-e", "-c", commands(t, name))
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "DATABASE="+database, "LOCKSTEP_LISTEN=off",
		"PATH="+filepath.Dir(program)+string(os.PathListSeparator)+os.Getenv("PATH"))
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

func commands(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := docs.Parse("README.md", string(text))
	if err != nil {
		t.Fatal(err)
	}
	program := "./examples/quickstart/" + name
	for _, b := range page.Blocks {
		if b.Language == "sh" && b.Rest == "quickstart" && strings.Contains(b.Text, program) {
			return strings.Replace(b.Text, "./examples/quickstart/postgres", program, 1)
		}
	}
	t.Fatalf("the README has no quick start of %s", program)
	return ""
}
