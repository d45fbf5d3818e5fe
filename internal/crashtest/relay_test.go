package crashtest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
)

// childEnv carries a child's relayPlan; the test program that finds it set is a relay.
const childEnv = "LOCKSTEP_CRASHTEST_RELAY"

// killPoint is where a relay stops and says so, to be killed there.
type killPoint string

const (
	nowhere       killPoint = "nowhere"
	beforePublish killPoint = "before publish"
	afterAnswer   killPoint = "between the broker's answer and the delete"
	anywhere      killPoint = "anywhere" // the parent chooses a time instead of a place
)

// relayPlan is what a child is told.
type relayPlan struct {
	DSN    string
	Kafka  string
	Point  killPoint
	OnCall int64 // the Publish call, from 1, in which Point is reached
	// DeleteFirst is the mutant: a relay that removes events before the broker has answered.
	DeleteFirst bool
}

// arrival is what a child prints when it has reached its point.
type arrival struct {
	IDs []string // of the messages in the call
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := runRelay(text); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// runRelay is the child process: a relay that runs until SIGTERM, or for ever once it reached its point.
func runRelay(text string) error {
	var plan relayPlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return err
	}
	dialect, err := postgres.Open(plan.DSN, postgres.Config{})
	if err != nil {
		return err
	}
	defer dialect.Close()
	kafkaBroker, err := kafka.Open(kafka.Config{Brokers: []string{plan.Kafka}})
	if err != nil {
		return err
	}
	defer kafkaBroker.Close()

	var broker core.Broker = &stopping{broker: kafkaBroker, plan: plan}
	if plan.DeleteFirst {
		db, err := sqlx.Open("postgres", plan.DSN)
		if err != nil {
			return err
		}
		defer db.Close()
		broker = &deleteFirst{broker: broker, db: db}
	}
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return relay.Run(ctx)
}

// stopping is a broker that says when it has reached the plan's point, and goes no further.
type stopping struct {
	broker core.Broker
	plan   relayPlan
	calls  atomic.Int64
}

func (s *stopping) Publish(ctx context.Context, msgs []core.Message) error {
	here := s.calls.Add(1) == s.plan.OnCall
	if here && s.plan.Point == beforePublish {
		arrive(msgs)
	}
	if err := s.broker.Publish(ctx, msgs); err != nil {
		return err
	}
	if here && s.plan.Point == afterAnswer {
		arrive(msgs)
	}
	return nil
}

func arrive(msgs []core.Message) {
	var a arrival
	for _, m := range msgs {
		a.IDs = append(a.IDs, m.ID)
	}
	if err := json.NewEncoder(os.Stdout).Encode(a); err != nil {
		panic(err)
	}
	select {} // until SIGKILL
}

// deleteFirst breaks promise 2: it removes the events, then publishes them.
type deleteFirst struct {
	broker core.Broker
	db     *sqlx.DB
}

func (d *deleteFirst) Publish(ctx context.Context, msgs []core.Message) error {
	var ids []string
	for _, m := range msgs {
		ids = append(ids, m.ID)
	}
	if _, err := d.db.ExecContext(ctx, `DELETE FROM outbox WHERE id = ANY($1)`, pq.Array(ids)); err != nil {
		return err
	}
	return d.broker.Publish(ctx, msgs)
}

// child is a running relay process.
type child struct {
	cmd *exec.Cmd
	out io.Reader
}

func startRelay(t *testing.T, plan relayPlan) *child {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return &child{cmd: cmd, out: out}
}

// arrival waits until the child has reached its point.
func (c *child) arrival(t *testing.T) arrival {
	t.Helper()
	watchdog := time.AfterFunc(time.Minute, func() { _ = c.cmd.Process.Kill() })
	defer watchdog.Stop()
	line, err := bufio.NewReader(c.out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the relay ended, or was idle for a minute, before it reached its point: %v", err)
	}
	var a arrival
	if err := json.Unmarshal(line, &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// kill sends SIGKILL, waits, and makes sure that this is what ended the process.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatalf("kill the relay: %v", err)
	}
	err := c.cmd.Wait()
	if status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("the relay ended with %v, want SIGKILL", err)
	}
}

// stop sends SIGTERM and expects a clean end.
func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop the relay: %v", err)
	}
	if err := c.cmd.Wait(); err != nil {
		t.Fatalf("the relay ended with %v, want exit code 0", err)
	}
}
