package crashtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// childEnv carries a child's relayPlan; the test program that finds it set is a relay.
const childEnv = "LOCKSTEP_CRASHTEST_RELAY"

// relayPlan is what a child is told.
type relayPlan struct {
	Database database
	DSN      string
	Kafka    string // the broker; where RabbitMQ is empty as well, one that keeps nothing
	RabbitMQ string

	Point  killPoint
	OnCall int64 // the Publish call, from 1, in which Point is reached
	// DeleteFirst is the mutant: a relay that removes events before the broker has answered.
	DeleteFirst bool
	// Killer is the id of a message that kills whichever process publishes it; MaxAttempts is what it gets.
	Killer      string
	MaxAttempts int
	// Slow is how long each answer of the broker is withheld.
	Slow time.Duration

	InFlight               int
	LeaseTTL, DrainTimeout time.Duration

	// Consumer makes the child a consumer.
	Consumer *consumerPlan
}

// killPoint is where a relay stops and says so, to be killed there.
type killPoint string

const (
	nowhere       killPoint = ""
	beforePublish killPoint = "before publish"
	afterAnswer   killPoint = "between the broker's answer and the delete"
	untilStopped  killPoint = "before the answer, until SIGTERM" // goes on a while after the signal
	anywhere      killPoint = "anywhere"                         // the parent chooses a time instead of a place
)

// report is a line that a child prints.
type report struct {
	What event
	At   time.Time
	IDs  []string `json:",omitempty"` // of the messages that it is about
	Text string   `json:",omitempty"` // an error's
	N    int      `json:",omitempty"`
}

type event string

const (
	leading  event = "leading"  // the lease was taken
	released event = "released" // the lease was released, or lost
	arrived  event = "arrived"  // at the plan's point
	begun    event = "begun"    // a publish call was made of a slow broker
	stored   event = "stored"   // a publish call succeeded
	stopping event = "stopping" // SIGTERM came, while N publish calls were in flight
	counted  event = "counted"  // an attempt was counted
	buried   event = "buried"   // a message became a dead letter
	ended    event = "ended"    // Run returned, Text is its error
)

var printing sync.Mutex

func say(r report) {
	printing.Lock()
	defer printing.Unlock()
	r.At = time.Now()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		os.Exit(2) // the parent has gone
	}
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := runRelay(text); err != nil {
			fmt.Fprintln(os.Stderr, "relay:", err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	removePlainProgram()
	os.Exit(code)
}

// runRelay is the child process: a relay that runs until SIGTERM, or for ever once it reached its point.
func runRelay(text string) error {
	var plan relayPlan
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		return err
	}
	if plan.Consumer != nil {
		return runConsumer(plan)
	}
	dialect, err := plan.Database.open(plan.DSN)
	if err != nil {
		return err
	}
	defer dialect.Close()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	broker, err := plan.broker()
	if err != nil {
		return err
	}
	if own, ok := broker.(io.Closer); ok {
		defer own.Close()
	}
	watched := &watching{broker: broker, plan: plan, stop: ctx}
	broker = watched
	if plan.DeleteFirst {
		mutant, err := newDeleteFirst(broker, plan.DSN)
		if err != nil {
			return err
		}
		defer mutant.db.Close()
		broker = mutant
	}
	relay, err := core.NewRelay(dialect, broker, core.RelayConfig{
		InFlight: plan.InFlight, LeaseTTL: plan.LeaseTTL, DrainTimeout: plan.DrainTimeout, Hooks: reporting(),
		Failures: core.FailurePolicy{MaxAttempts: plan.MaxAttempts},
	})
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { say(report{What: stopping, N: int(watched.running.Load())}) })
	err = relay.Run(ctx)
	say(report{What: ended, Text: textOf(err)})
	return err
}

func (p relayPlan) broker() (core.Broker, error) {
	switch {
	case p.Kafka != "":
		return kafka.Open(kafka.Config{Brokers: []string{p.Kafka}})
	case p.RabbitMQ != "":
		return amqp.Open(amqp.Config{URLs: []string{p.RabbitMQ}})
	}
	return nothing{}, nil
}

func reporting() core.Hooks {
	return core.Hooks{
		Leading: func(leads bool, _ int64) {
			if leads {
				say(report{What: leading})
			} else {
				say(report{What: released})
			}
		},
		Failed: func(f core.Failure) { say(report{What: counted, IDs: []string{f.ID}, Text: f.Cause}) },
		Buried: func(b core.Burial) { say(report{What: buried, IDs: []string{b.ID}, Text: b.Cause}) },
	}
}

func textOf(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// database is a kind of database that a test runs on.
type database string

const (
	onPostgres database = "postgres"
	onMySQL    database = "mysql"
	onMariaDB  database = "mariadb"
	onSQLite   database = "sqlite"
)

// dialect is what both dialects are.
type dialect interface {
	core.Dialect
	Migrate(ctx context.Context) error
	Close() error
}

func (d database) open(dsn string) (dialect, error) {
	switch d {
	case onPostgres:
		return postgres.Open(dsn, postgres.Config{})
	case onSQLite:
		return sqlite.Open(dsn, sqlite.Config{})
	case onMySQL, onMariaDB:
		return mysql.Open(dsn, mysql.Config{})
	}
	return nil, errors.New("no such database")
}
