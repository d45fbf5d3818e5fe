// Package demo shows what a transactional outbox is for. The same order service, written four ways, meets the same
// faults, and what is left of its orders and events is counted.
//
// # Who runs where
//
//	this process                             child processes
//	plan ── orders, faults ───stdin/stdout──► service (one of four) ──► SQLite file
//	broker ◄──────── HTTP ───────────────────┘       (Lockstep only)       │
//	  │  ▲                                                                 ▼
//	  │  └────────── HTTP ────────────────────────────────────────────── relay
//	  ▼
//	consumer, which deduplicates on the event id
//
// Each service has a SQLite file and a topic of its own. The children are this program, executed again with
// [ChildEnv] set; see [RunChild].
//
// # The faults
//
// Nothing is scripted but the moment. A crash is SIGKILL, sent by the process to itself between its two writes. A
// broker that is away resets connections. A lost answer is a message that the broker stored before it closed the
// connection. An INSERT fails by a foreign key, a COMMIT by a deferred one. A fault that was planned and did not take
// place ends the run with an error, and the counts are made from the orders table, the broker's log and the consumer's
// effects alone.
//
// A customer whose request failed, or was not answered, tries again or does not, as a coin decides that the seed
// throws. The second attempt has the same order id and meets no fault. A service that finds the order in its database
// says "done", as services do.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Bounds of [Config.Orders].
const (
	MinOrders = 1
	MaxOrders = 1_000_000
)

// Config says what to run.
type Config struct {
	// Orders is how many orders each service is given, from MinOrders to MaxOrders.
	Orders int
	// Seed decides which order meets which fault, and which customer tries again.
	Seed uint64
	// Watch is told of every order that is finished, between one order and the next. Defaults to nobody.
	Watch func(Progress)

	services []service // tests run broken services; otherwise the four
}

// Faults counts the faults that the orders of this run are to meet.
func (c Config) Faults() Faults { return count(newPlan(c.Orders, c.Seed)) }

// Progress is how far one service has come.
type Progress struct {
	Title       string  // the service's
	Done, Total int     // orders
	Result      *Result // once, when the service is done and counted
}

// Report is the outcome of a run.
type Report struct {
	Seed     uint64   `json:"seed"`
	Orders   int      `json:"orders"` // that each service was given
	Faults   Faults   `json:"faults"` // that each service met
	Services []Result `json:"services"`
}

// Result is what one service left behind.
type Result struct {
	Name   string `json:"name"`
	Title  string `json:"title"`
	Kills  Kills  `json:"kills"`
	Orders int    `json:"orders"` // in the database
	Events int    `json:"events"` // in the broker's log, repeats included
	Counts Counts `json:"counts"`
}

// Kills counts the processes that ended by SIGKILL, as the operating system reported it.
type Kills struct {
	Service int `json:"service"`
	Relay   int `json:"relay"`
}

// ErrInconsistent is returned by [Report.Check] when Lockstep did not keep its promise.
var ErrInconsistent = errors.New("Lockstep's orders and events differ")

// Check returns [ErrInconsistent] unless every order of the Lockstep service has its event, every event its order, and
// every order its effect at most once.
func (r Report) Check() error {
	for _, s := range r.Services {
		c := s.Counts
		if s.Name == lockstepName && c != (Counts{EventsDeliveredTwice: c.EventsDeliveredTwice}) {
			return fmt.Errorf("%w: %d orders without an event, %d events without an order, %d effects applied twice; this is a bug, "+
				"please report it with --seed %d --orders %d",
				ErrInconsistent, c.OrdersWithoutEvent, c.EventsWithoutOrder, c.EffectsAppliedTwice, r.Seed, r.Orders)
		}
	}
	return nil
}

// Run gives every service the same orders and faults, one service after the other. It blocks until all its processes
// have ended and its files are removed. An error means that the counts could not be made; ask [Report.Check] whether
// they are good.
func Run(ctx context.Context, config Config) (report Report, err error) {
	if config.Orders < MinOrders || config.Orders > MaxOrders {
		return Report{}, fmt.Errorf("%d orders: give a number from %d to %d", config.Orders, MinOrders, MaxOrders)
	}
	dir, err := os.MkdirTemp("", "lockstep-demo-")
	if err != nil {
		return Report{}, fmt.Errorf("make a directory for the databases: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	broker, err := startBroker()
	if err != nil {
		return Report{}, fmt.Errorf("start broker: %w", err)
	}
	defer broker.stop()

	services := config.services
	if services == nil {
		services = fourServices
	}
	plan := newPlan(config.Orders, config.Seed)
	stage := &stage{plan: plan, broker: broker, dir: dir, watch: config.Watch}
	report = Report{Seed: config.Seed, Orders: config.Orders, Faults: count(plan)}
	for _, s := range services {
		result, err := stage.try(ctx, s)
		if err != nil {
			return Report{}, fmt.Errorf("%s: %w", s.title, err)
		}
		report.Services = append(report.Services, result)
	}
	return report, nil
}
