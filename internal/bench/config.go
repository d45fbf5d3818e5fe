package bench

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The databases and brokers that can be measured.
const (
	Postgres = "postgres"
	MySQL    = "mysql"
	MariaDB  = "mariadb"
	SQLite   = "sqlite"
	Kafka    = "kafka"
	RabbitMQ = "rabbitmq"
)

// The sections, in the order in which they run.
const (
	Drain     = "drain"
	Latency   = "latency"
	Writes    = "writes"
	Idle      = "idle"
	HotKey    = "hotkey"
	Snapshot  = "snapshot"
	Blocked   = "blocked"
	ArchiveIn = "archive"
	Growth    = "growth"
)

// Sections are all of them.
var Sections = []string{Drain, Latency, Writes, Idle, HotKey, Snapshot, Blocked, ArchiveIn, Growth}

// Config says what to measure. The zero value measures SQLite alone, which needs no broker, in the sections that need none.
type Config struct {
	// Servers are the addresses by the names above: a postgres:// URL, go-sql-driver's form for MySQL and MariaDB, an
	// amqp:// URL, host:port for Kafka, a directory for SQLite (defaults to the system's for temporary files). Schemas,
	// databases, topics and queues are made there, named lockstep_bench_…, and removed.
	Servers map[string]string
	// Databases and Brokers are those to measure. Default to those that Servers names, and SQLite.
	Databases, Brokers []string
	// Only names the sections to run. Defaults to all.
	Only []string
	// Events is the backlog of a drain. Defaults to 100 000.
	Events int
	// Keys is how many keys the events have. Defaults to 10 000.
	Keys int
	// PayloadBytes is each payload's length, at least 16. Defaults to 300.
	PayloadBytes int
	// Rounds is how often each trial is repeated. Defaults to 3.
	Rounds int
	// For is how long a trial lasts that is measured over time (latency, writes, idle). Defaults to 5 s.
	For time.Duration
	// Rates are the events per second of the latency trials. Default to 10, 100, 1000 and 5000.
	Rates []int
	// Backlogs are those of the growth section. Default to 10 000, 100 000 and 1 000 000.
	Backlogs []int
	// ProfileDir gets a CPU and an allocation profile of each of Lockstep's drains, and is made where there is none. Defaults to none.
	ProfileDir string
	// Progress is told what is being done. Defaults to nobody.
	Progress func(line string)
}

// Validate reports every setting that is out of range.
func (c Config) Validate() error {
	_, err := c.withDefaults()
	return err
}

func (c Config) withDefaults() (Config, error) {
	var errs []error
	number := func(name string, n *int, least, usual int) {
		if *n == 0 {
			*n = usual
		}
		if *n < least {
			errs = append(errs, fmt.Errorf("%s is %d: it must be at least %d", name, *n, least))
		}
	}
	number("Events", &c.Events, 100, 100_000)
	number("Keys", &c.Keys, 2, 10_000)
	number("PayloadBytes", &c.PayloadBytes, 16, 300)
	number("Rounds", &c.Rounds, 1, 3)
	if c.For == 0 {
		c.For = 5 * time.Second
	}
	if c.For < 100*time.Millisecond {
		errs = append(errs, fmt.Errorf("For is %v: it must be at least 100ms", c.For))
	}
	if len(c.Rates) == 0 {
		c.Rates = []int{10, 100, 1000, 5000}
	}
	if len(c.Backlogs) == 0 {
		c.Backlogs = []int{10_000, 100_000, 1_000_000}
	}
	for _, n := range slices.Concat(c.Rates, c.Backlogs) {
		if n <= 0 {
			errs = append(errs, fmt.Errorf("Rates and Backlogs have the entry %d: each must be positive", n))
		}
	}
	if len(c.Only) == 0 {
		c.Only = Sections
	}
	errs = append(errs, known("Only", c.Only, Sections))
	if c.Progress == nil {
		c.Progress = func(string) {}
	}
	var err error
	c.Databases, err = c.chosen("Databases", c.Databases, []string{Postgres, MySQL, MariaDB, SQLite})
	errs = append(errs, err)
	c.Brokers, err = c.chosen("Brokers", c.Brokers, []string{Kafka, RabbitMQ})
	errs = append(errs, err)
	return c, errors.Join(errs...)
}

// chosen returns the names that were asked for, or those that have an address.
func (c Config) chosen(field string, names, all []string) ([]string, error) {
	if len(names) == 0 {
		for _, name := range all {
			if c.Servers[name] != "" || name == SQLite {
				names = append(names, name)
			}
		}
		return names, nil
	}
	if err := known(field, names, all); err != nil {
		return nil, err
	}
	for _, name := range names {
		if c.Servers[name] == "" && name != SQLite {
			return nil, fmt.Errorf("%s names %s, and nothing says where it is: give its address", field, name)
		}
	}
	return names, nil
}

func known(field string, names, all []string) error {
	for _, name := range names {
		if !slices.Contains(all, name) {
			return fmt.Errorf("%s has the entry %q: want names from %s", field, name, strings.Join(all, ", "))
		}
	}
	return nil
}
