package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// ChildEnv is set in the environment of the demo's child processes.
const ChildEnv = "LOCKSTEP_DEMO_CHILD"

// childConfig is what a child finds in ChildEnv, as JSON.
type childConfig struct {
	Service  string // name of the service
	Relay    bool   // be its relay instead
	Database string
	Broker   string // URL
	Deaths   string // directory with a file for each order that is to cost the relay its life
}

// request is a line that a service reads, reply the line that it answers.
type request struct {
	Order       order
	Fault       fault
	AfterCommit bool // where in the Lockstep service a crash takes place
	AddMissing  bool // the customer and the product exist by now
}

type reply struct {
	Error string // empty: the order is placed
}

// exitChildFailed differs from what a killed process leaves on any platform, and from a panic's 2.
const exitChildFailed = 3

// IsChild reports whether this process is a child of a demo. The program's main function asks before it does anything
// else, and leaves the rest to [RunChild].
func IsChild() bool { return os.Getenv(ChildEnv) != "" }

// RunChild is the main function of a child process; it returns the exit code. A child ends when its standard input
// does, so that none outlives its parent, and leaves interrupts to it.
func RunChild() int {
	signal.Ignore(os.Interrupt)
	if err := runChild(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitChildFailed
	}
	return 0
}

func runChild(ctx context.Context) (err error) {
	var config childConfig
	if err := json.Unmarshal([]byte(os.Getenv(ChildEnv)), &config); err != nil {
		return fmt.Errorf("read %s: %w", ChildEnv, err)
	}
	service, err := findService(config.Service)
	if err != nil {
		return err
	}
	dialect, err := sqlite.Open(config.Database, sqlite.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dialect.Close()) }()
	publisher := newPublisher(config.Broker)
	defer publisher.Close()
	if config.Relay {
		return runRelay(ctx, service, dialect, publisher, config.Deaths)
	}
	shop, err := openShop(ctx, dialect, service.name, publisher)
	if err != nil {
		return err
	}
	return serveAll(ctx, shop, service)
}

// serveAll answers requests until there are no more.
func serveAll(ctx context.Context, shop *shop, service service) error {
	requests, replies := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			return nil
		} else if err != nil {
			return fmt.Errorf("read request: %w", err)
		}
		var answer reply
		if err := shop.serve(ctx, r, service.place); err != nil {
			answer.Error = err.Error()
		}
		if err := replies.Encode(answer); err != nil {
			return fmt.Errorf("write reply: %w", err)
		}
	}
}

func findService(name string) (service, error) {
	for _, s := range slices.Concat(fourServices, brokenServices) {
		if s.name == name {
			return s, nil
		}
	}
	return service{}, fmt.Errorf("there is no service %q", name)
}

// brokenServices are the tests'.
var brokenServices []service

// die is kill -9 by one's own hand: nothing is flushed, closed, rolled back or answered.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err) // exits with a code that the parent does not take for a kill
	}
	select {}
}
