package sqlite_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// childEnv makes this test program another process: its value is an order.
const childEnv = "LOCKSTEP_SQLITE_CHILD"

// order is what a child does with a file.
type order struct {
	Do      string
	Path    string
	Name    string
	Seconds float64
}

// answer is what it prints at the end.
type answer struct {
	Fault      string   // of a core.SetupError
	Error      string   // of any
	Committed  []string // ids
	Delivered  []string
	Slowest    time.Duration // commit
	Complaints string        // in the relays' log
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		beChild(text)
		return
	}
	goleak.VerifyTestMain(m)
}

func beChild(text string) {
	var o order
	var a answer
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		a, err = o.do(context.Background())
	}
	var fault *core.SetupError
	if errors.As(err, &fault) {
		a.Fault = fault.Error()
	}
	if err != nil {
		a.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		os.Exit(1)
	}
}

func (o order) do(ctx context.Context) (a answer, err error) {
	d, err := sqlite.Open(o.Path, sqlite.Config{})
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	switch o.Do {
	case "migrate":
		return a, d.Migrate(ctx)
	case "check":
		return a, d.Check(ctx)
	case "commit":
		return a, commitOnDemand(ctx, d)
	case "hold":
		return a, hold(ctx, d)
	case "work":
		return work(ctx, d, o.Name, time.Duration(o.Seconds*float64(time.Second)))
	}
	return a, fmt.Errorf("no order %q", o.Do)
}

// commitOnDemand commits an event for each line that it reads, and prints when COMMIT had returned.
func commitOnDemand(ctx context.Context, d *sqlite.Dialect) error {
	outbox := core.NewOutbox(d, core.OutboxConfig{})
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		err := outbox.InTx(ctx, d.DB(), core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
			return []core.Message{{Topic: "t"}}, nil
		})
		if err != nil {
			return err
		}
		fmt.Println(time.Now().UnixNano())
	}
	return nil
}

// hold keeps a write transaction open until its input ends.
func hold(ctx context.Context, d *sqlite.Dialect) error {
	tx, err := d.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	fmt.Println("held")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, tx.Rollback())
}

// child is a running one.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startChild starts this program once more.
func startChild(t testing.TB, o order) *child {
	t.Helper()
	return startProgram(t, os.Args[0], o, nil)
}

func startProgram(t testing.TB, program string, o order, as *syscall.Credential) *child {
	t.Helper()
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(program)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Process.Kill()
			_ = c.cmd.Wait()
		}
	})
	return c
}

// line returns the next line of its output.
func (c *child) line(t testing.TB) string {
	t.Helper()
	text, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the other process: %v", err)
	}
	return text
}

// end lets it finish and returns its answer.
func (c *child) end(t testing.TB) (a answer) {
	t.Helper()
	c.in.Close()
	if err := json.Unmarshal([]byte(c.line(t)), &a); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return a
}
