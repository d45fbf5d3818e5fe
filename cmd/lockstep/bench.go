package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/internal/bench"
)

const benchHelp = `Measure Lockstep on real servers: beside their own limits, and beside what teams
write by hand.

Trials that are compared take turns, and everything that arrives at a broker is
read back and held against what was enqueued: a trial that lost an event, or broke
the order of a key, is named and counts for nothing. Each runs in a process of its
own, whose processor time and memory are told apart from the servers' (on Linux,
and where the servers run on the same machine).

  drain     the limits, the bare pipeline, Lockstep, and two hand-written relays
  latency   from commit to the broker's answer, in process and across processes
  writes    the application's transactions per second, with and without an outbox
  idle      what a relay costs that has nothing to do
  hotkey    every second event is of one key
  snapshot  a transaction of the database is open all the time
  blocked   as many events of blocked keys stand in front
  archive   delivered events are kept
  growth    larger and larger backlogs

Tables, topics and queues are made in the servers that the flags name, with names
that begin with lockstep_bench_, and are removed. It uses all of a machine: don't
point it at servers that serve anybody.

Exit code: 0 when everything was measured and delivered in order, 1 when not, 2
when the command line is wrong. A target that is missed does not change it.`

const benchExamples = `  lockstep bench --kafka 127.0.0.1:9092 --databases sqlite --only drain
  lockstep bench --postgres postgres://… --kafka 127.0.0.1:9092 --events 1000000 --rounds 5
  lockstep bench --json --svg drain.svg > bench.json`

func newBench() *cobra.Command {
	config := bench.Config{Servers: map[string]string{}}
	var asJSON bool
	var plot string
	cmd := &cobra.Command{
		Use: "bench", Short: "Measure Lockstep on real servers, beside their limits and hand-written relays",
		Long: benchHelp, Example: benchExamples, Args: noArgs,
	}
	flags := cmd.Flags()
	addresses := map[string]*string{}
	for _, server := range []struct{ name, usage string }{
		{bench.Postgres, "postgres:// `URL`"},
		{bench.MySQL, "`DSN` in the form of go-sql-driver/mysql"},
		{bench.MariaDB, "`DSN` in the form of go-sql-driver/mysql"},
		{bench.SQLite, "`directory` for the files; without it that of the system for temporary files"},
		{bench.Kafka, "`host:port`"},
		{bench.RabbitMQ, "amqp:// `URL`"},
	} {
		variable := "LOCKSTEP_TEST_" + strings.ToUpper(server.name)
		addresses[server.name] = flags.String(server.name, "", server.usage+" (also "+variable+")")
	}
	flags.StringSliceVar(&config.Databases, "databases", nil, "`names` of the databases to measure; without it those with an address, and sqlite")
	flags.StringSliceVar(&config.Brokers, "brokers", nil, "`names` of the brokers to measure; without it those with an address")
	flags.StringSliceVar(&config.Only, "only", nil, "`names` of the sections to run; without it all")
	flags.IntVar(&config.Events, "events", 100_000, "`n` events in a backlog")
	flags.IntVar(&config.Keys, "keys", 10_000, "`n` keys of the events")
	flags.IntVar(&config.PayloadBytes, "payload", 300, "`bytes` of a payload")
	flags.IntVar(&config.Rounds, "rounds", 3, "`n` times that each trial is repeated")
	flags.DurationVar(&config.For, "for", 5*time.Second, "`time` of a trial that is measured over time")
	flags.IntSliceVar(&config.Rates, "rates", nil, "`n` events per second of the latency trials; without it 10,100,1000,5000")
	flags.IntSliceVar(&config.Backlogs, "backlogs", nil, "`n` events of the growth section; without it 10000,100000,1000000")
	flags.StringVar(&config.ProfileDir, "profiles", "", "`directory` for a CPU and an allocation profile of each of Lockstep's drains")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object and nothing else")
	flags.StringVar(&plot, "svg", "", "`file` for a plot of the drain")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for name, address := range addresses {
			if at := cmp.Or(*address, os.Getenv("LOCKSTEP_TEST_"+strings.ToUpper(name))); at != "" {
				config.Servers[name] = at
			}
		}
		if err := config.Validate(); err != nil {
			return &usageError{err}
		}
		config.Progress = func(line string) { fmt.Fprintln(cmd.ErrOrStderr(), line) }
		return runBench(cmd, config, asJSON, plot)
	}
	return cmd
}

// runBench prints what was measured even where not all could be.
func runBench(cmd *cobra.Command, config bench.Config, asJSON bool, plot string) error {
	report, failed := bench.Run(cmd.Context(), config)
	if report == nil {
		return failed
	}
	out := cmd.OutOrStdout()
	var printed error
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		printed = encoder.Encode(report)
	} else {
		printed = report.Print(out)
	}
	switch {
	case printed != nil:
		return fmt.Errorf("print what was measured: %w", printed)
	case failed != nil:
		return failed
	}
	if plot != "" {
		if err := os.WriteFile(plot, report.SVG(), 0o644); err != nil { //nolint:gosec // a picture
			return fmt.Errorf("write the plot: %w", err)
		}
	}
	return report.Check()
}
