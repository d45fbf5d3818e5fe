package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/internal/demo"
)

// defaultOrders takes some seconds on two cores.
const defaultOrders = 500

const demoHelp = `Show what a transactional outbox is for.

The same order service is written four ways: database then broker, broker then
database, publish inside the transaction then COMMIT, and Lockstep. Each is given
the same orders and meets the same faults: it is killed between its two writes,
the broker is away, the broker stores the event but its answer is lost, INSERT
fails, COMMIT fails. Then orders and events are counted.

Nothing needs to be installed or running. The services and the relay are child
processes of this one, and a crash is a real SIGKILL. The broker is in memory, on
a loopback port; the databases are SQLite files in a temporary directory, which
is removed at the end.

The same --seed and --orders give the same counts, every time: they decide which
order meets which fault and which customer tries again, and an event that costs
the relay its life is sent alone, so that exactly one event is sent again.

Exit code: 0 when Lockstep's orders and events agree, 1 when they do not or the
demo could not run, 2 when the command line is wrong.`

const demoExamples = `  lockstep demo
  lockstep demo --seed 7 --orders 1000
  lockstep demo --json | jq '.services[] | {name, counts}'`

func newDemo() *cobra.Command {
	var config demo.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show what a transactional outbox is for: four order services, the same faults",
		Long:    demoHelp,
		Example: demoExamples,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n := config.Orders; n < demo.MinOrders || n > demo.MaxOrders {
				return &usageError{fmt.Errorf("--orders is %d: give a number from %d to %d", n, demo.MinOrders, demo.MaxOrders)}
			}
			if !cmd.Flags().Changed("seed") {
				config.Seed = 1 + rand.Uint64N(999_999)
			}
			return runDemo(cmd, config, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&config.Orders, "orders", defaultOrders, "orders that each service is given, `n` from 1 to 1000000")
	flags.Uint64Var(&config.Seed, "seed", 0, "`n` repeats the run that printed it; a random one without this flag")
	flags.BoolVar(&asJSON, "json", false, "print the counts as one JSON object and nothing else")
	return cmd
}

func runDemo(cmd *cobra.Command, config demo.Config, asJSON bool) error {
	ctx, stop := context.WithCancel(cmd.Context())
	defer stop()
	out := cmd.OutOrStdout()
	var printer *demo.Printer
	if !asJSON {
		printer = demo.NewPrinter(out, isTerminal(out))
		printer.Start(config)
		config.Watch = func(at demo.Progress) {
			printer.Progress(at)
			if printer.Err() != nil {
				stop() // nobody is there to see the rest
			}
		}
	}
	report, err := demo.Run(ctx, config)
	if printer != nil && printer.Err() != nil {
		return printFailed(printer.Err())
	}
	if err != nil {
		if printer != nil {
			printer.Abort()
		}
		return err
	}
	if asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(report); err != nil {
			return printFailed(err)
		}
	} else if printer.Finish(report); printer.Err() != nil {
		return printFailed(printer.Err())
	}
	return report.Check()
}

func printFailed(err error) error { return fmt.Errorf("print the counts: %w", err) }

// isTerminal reports whether out is a terminal that shows colours, redraws a line, and is wide enough for the frame.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	if runtime.GOOS == "windows" && os.Getenv("WT_SESSION") == "" {
		return false // the old console shows escape codes as they are
	}
	if !isatty.IsTerminal(file.Fd()) {
		return false
	}
	width := terminalWidth(file)
	return width == 0 || width >= demo.LiveWidth
}
