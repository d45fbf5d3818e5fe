package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// ChildEnv names the variable that makes this program a child of a bench: it holds the task.
const ChildEnv = "LOCKSTEP_BENCH_TASK"

// task is what a child process does.
type task struct {
	Way      string
	Database Place
	Broker   Place
	Topic    string
	// Events is how many to carry, after which the child ends.
	Events  int
	Payload int
	// Batch is how many rows a batched loop takes at a time.
	Batch   int
	Archive bool
	// For and Rate are of the trials that are measured over time.
	For  time.Duration
	Rate int
	// Answers is a file for the times at which events were committed, or confirmed.
	Answers string
	// Servers are the processes whose time is taken beside the child's own: of the database, and of the broker.
	DatabaseServer, BrokerServer int
	// Profile begins the names of the files for profiles. Empty for none.
	Profile string
}

// outcome is what a child tells.
type outcome struct {
	Events  int
	Seconds float64
	// CPU seconds; negative where they cannot be known.
	CPU, DatabaseCPU, BrokerCPU float64
	// PeakBytes is the largest resident set; 0 where it cannot be known.
	PeakBytes int64
	// Calls counts round trips to the database, where that is asked for.
	Calls int
}

// IsChild reports whether this process is a child of a bench.
func IsChild() bool { return os.Getenv(ChildEnv) != "" }

// RunChild does the task and returns the exit code. It ends early, and well, when standard input ends: a child never
// outlives its parent.
func RunChild() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := runChild(ctx, stop); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func runChild(ctx context.Context, stop func()) error {
	var t task
	if err := json.Unmarshal([]byte(os.Getenv(ChildEnv)), &t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	way, known := ways[t.Way]
	if !known {
		return fmt.Errorf("there is no way %q", t.Way)
	}
	o, err := way(ctx, &t)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Way, err)
	}
	o.PeakBytes = peakMemory()
	return json.NewEncoder(os.Stdout).Encode(o)
}

// ways are what children can do.
var ways map[string]func(ctx context.Context, t *task) (outcome, error)

func init() { // not a literal: the ways refer to it
	ways = map[string]func(ctx context.Context, t *task) (outcome, error){
		wayRawDatabase: rawDatabase,
		wayRawBroker:   rawBroker,
		wayBare:        bare,
		wayLockstep:    lockstep,
		wayBatched:     batched,
		wayTextbook:    textbook,
		wayNoOutbox:    writes,
		wayByHand:      writes,
		wayEnqueue:     writes,
		wayInTxWake:    writes,
		wayDirect:      latency,
		wayInProcess:   latency,
		wayApp:         latency,
		wayRelay:       relayAlone,
		wayIdle:        idle,
		wayPoll:        poll,
	}
}

// child is a running task.
type child struct {
	cmd            *exec.Cmd
	stdin          io.Closer
	stdout, stderr bytes.Buffer
}

// start starts a child for t.
func start(ctx context.Context, t task) (*child, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program's file: %w", err)
	}
	encoded, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, program)}
	c.cmd.Env = append(os.Environ(), ChildEnv+"="+string(encoded))
	c.cmd.Stdout, c.cmd.Stderr = &c.stdout, &c.stderr
	c.cmd.WaitDelay = 5 * time.Second
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return c, c.cmd.Start()
}

// stop asks the child to end.
func (c *child) stop() { c.stdin.Close() }

// wait returns what the child told.
func (c *child) wait() (outcome, error) {
	var o outcome
	if err := c.cmd.Wait(); err != nil {
		return o, fmt.Errorf("%w: %s", err, strings.TrimSpace(c.stderr.String()))
	}
	if err := json.Unmarshal(c.stdout.Bytes(), &o); err != nil {
		return o, errors.Join(errors.New("a child told nothing that can be read"), err)
	}
	return o, nil
}

// perform runs t to its end.
func perform(ctx context.Context, t task) (outcome, error) {
	c, err := start(ctx, t)
	if err != nil {
		return outcome{}, err
	}
	defer c.stop()
	return c.wait()
}
