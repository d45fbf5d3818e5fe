package crashtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait for a child.
const patience = time.Minute

// child is a running relay process, and what it has reported.
type child struct {
	cmd     *exec.Cmd
	drained chan struct{} // closed when its output has ended

	mu      sync.Mutex
	reports []report
	more    chan struct{} // closed, and replaced, with each report
	log     strings.Builder
}

// startRelay starts this test program as a relay.
func startRelay(t *testing.T, plan relayPlan) *child {
	t.Helper()
	return start(t, os.Args[0], plan)
}

// startPlainRelay starts a relay without the race detector, whose memory and speed would be measured otherwise.
func startPlainRelay(t *testing.T, plan relayPlan) *child {
	t.Helper()
	program, err := plainProgram()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, program, plan)
}

var plainProgram = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lockstep-crashtest-*")
	if err != nil {
		return "", err
	}
	plainDir = dir
	program := filepath.Join(dir, "relay")
	if out, err := exec.Command("go", "test", "-c", "-o", program, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the relay: %w: %s", err, out)
	}
	return program, nil
})

var plainDir string

func removePlainProgram() {
	if plainDir != "" {
		os.RemoveAll(plainDir)
	}
}

func start(t *testing.T, program string, plan relayPlan) *child {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.Command(program), drained: make(chan struct{}), more: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	c.cmd.Stderr = (*childLog)(c)
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go c.read(out)
	t.Cleanup(func() {
		if c.cmd.ProcessState == nil {
			_ = c.cmd.Process.Kill()
			<-c.drained
			_ = c.cmd.Wait()
		}
		if t.Failed() {
			c.mu.Lock()
			defer c.mu.Unlock()
			t.Logf("the relay's log:\n%s", c.log.String())
		}
	})
	return c
}

// childLog keeps the beginning of what a child writes to its standard error.
type childLog child

func (l *childLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.log.Len() < 20_000 {
		l.log.Write(p)
	}
	return len(p), nil
}

func (c *child) read(out io.Reader) {
	defer close(c.drained)
	for lines := bufio.NewReader(out); ; {
		line, err := lines.ReadBytes('\n')
		var r report
		if err != nil || json.Unmarshal(line, &r) != nil {
			return // a line that is cut off is a killed process's last
		}
		c.mu.Lock()
		c.reports = append(c.reports, r)
		close(c.more)
		c.more = make(chan struct{})
		c.mu.Unlock()
	}
}

// find returns the first report of what since a time, and a channel that closes when there are further reports.
func (c *child) find(what event, since time.Time) (r report, found bool, more <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.IndexFunc(c.reports, func(r report) bool { return r.What == what && !r.At.Before(since) })
	if i < 0 {
		return report{}, false, c.more
	}
	return c.reports[i], true, nil
}

// await waits until the child has reported what, since the given time.
func (c *child) await(t *testing.T, what event, since time.Time) report {
	t.Helper()
	timeout := time.After(patience)
	for {
		r, found, more := c.find(what, since)
		if found {
			return r
		}
		select {
		case <-more:
		case <-c.drained:
			if r, found, _ := c.find(what, since); found {
				return r
			}
			t.Fatalf("the relay ended before it reported %q", what)
		case <-timeout:
			t.Fatalf("the relay did not report %q within %v", what, patience)
		}
	}
}

// all returns the reports of what.
func (c *child) all(what event) []report {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []report
	for _, r := range c.reports {
		if r.What == what {
			found = append(found, r)
		}
	}
	return found
}

// awaitCount waits until the reports of what name n messages in all, for as long as there is a further one.
func (c *child) awaitCount(t *testing.T, what event, n int) {
	t.Helper()
	for seen := 0; ; {
		c.mu.Lock()
		for _, r := range c.reports[seen:] {
			if r.What == what {
				n -= r.N
			}
		}
		seen = len(c.reports)
		more := c.more
		c.mu.Unlock()
		if n <= 0 {
			return
		}
		select {
		case <-more:
		case <-time.After(patience):
			t.Fatalf("the relay has reported nothing for %v, and %d messages are not %s", patience, n, what)
		}
	}
}

// kill sends SIGKILL, waits, and makes sure that this is what ended the process.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill the relay: %v", err)
	}
	c.expectKilled(t)
}

// expectKilled waits for the end of the process, and makes sure that SIGKILL was what ended it.
func (c *child) expectKilled(t *testing.T) {
	t.Helper()
	err := c.wait()
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the relay ended with %v, want SIGKILL", err)
	}
}

// terminate sends SIGTERM.
func (c *child) terminate(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop the relay: %v", err)
	}
}

// stop sends SIGTERM and expects a clean end.
func (c *child) stop(t *testing.T) {
	t.Helper()
	c.terminate(t)
	if err := c.wait(); err != nil {
		t.Fatalf("the relay ended with %v, want exit code 0", err)
	}
}

// wait returns when the process has ended and everything it wrote is read.
func (c *child) wait() error {
	watchdog := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	<-c.drained
	return c.cmd.Wait()
}

// expectNoAttempts fails the test if the child counted an attempt or buried a message.
func (c *child) expectNoAttempts(t *testing.T) {
	t.Helper()
	for _, what := range []event{counted, buried} {
		if all := c.all(what); len(all) > 0 {
			t.Errorf("messages that were %s: got %d, want none; the first: %s", what, len(all), all[0].Text)
		}
	}
}
