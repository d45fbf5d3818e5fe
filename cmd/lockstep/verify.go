package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

const verifyHelp = `Test whether the promises hold on your own servers.

It runs the checks of package conformance against the configured database, each
configured broker, and real relays between them, while connections are cut, frozen
and lost. The harm is done to its own connections alone: nobody else's, and no
server's. Nor does it touch the configured outbox or its topics. It works in
throw-away tables, topics, exchanges and queues whose names begin with
lockstep_verify_ (SQLite and file: in a file beside the configured one), and removes
them, also when it is interrupted; what cannot be removed is named. A second
interrupt ends it at once, and leaves what is there.

The database's user needs to create tables, the broker's to create topics, or
exchanges and queues. It takes minutes, and makes some load: begin in staging.

Exit code: 0 when no check failed, 1 when one did or something was left behind, 2
when it could not run. A promise that is not exercised lacks something, which is named;
one is not proven while a check fails that is of no promise: a rule on which all rest.`

// verifyParts are what can be verified.
var verifyParts = []string{"database", "broker", "pair"}

func newVerify() *cobra.Command {
	cmd := &cobra.Command{Use: "verify", Short: "Test whether the promises hold on your servers", Long: verifyHelp, Args: noArgs}
	s := newSettings(cmd, "database", "broker", "prefix", "schema")
	cmd.Flags().StringVar(&s.outbox, "outbox", "", "`name` of the outbox, where there are several; all without it")
	s.jsonFlag(cmd)
	only := cmd.Flags().StringSlice("only", verifyParts, "`parts` to verify: database, broker, pair")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, part := range *only {
			if !slices.Contains(verifyParts, part) {
				return &usageError{fmt.Errorf("--only is %q: there are %s", part, strings.Join(verifyParts, ", "))}
			}
		}
		value := struct {
			Outboxes []*verified `json:"outboxes"`
		}{[]*verified{}}
		err := s.each(cmd, true, func(ctx context.Context, o *config.Outbox) error {
			v := &verified{Outbox: o.Name, Database: o.Database.String(), LeftBehind: []string{}, only: *only, outbox: o}
			value.Outboxes = append(value.Outboxes, v)
			return v.run(ctx, cmd)
		})
		if err != nil {
			return err
		}
		if err := s.print(cmd, value, func(p *printer) {
			for _, v := range value.Outboxes {
				v.print(p)
			}
		}); err != nil {
			return err
		}
		return verdict(value.Outboxes)
	}
	return cmd
}

// verdict is what the whole came to.
func verdict(outboxes []*verified) error {
	failed, left := 0, 0
	for _, v := range outboxes {
		left += len(v.LeftBehind)
		for _, r := range v.Reports {
			failed += r.Report.Count(conformance.Failed)
		}
	}
	var errs []error
	if failed > 0 {
		errs = append(errs, fmt.Errorf("checks failed: %d", failed))
	}
	if left > 0 {
		errs = append(errs, fmt.Errorf("left behind: %d; remove them by hand", left))
	}
	return errors.Join(errs...)
}

// verified is what came of one outbox.
type verified struct {
	Outbox   string         `json:"outbox"`
	Database string         `json:"database"`
	Reports  []verifyReport `json:"reports"`
	// LeftBehind is what could not be removed, and why.
	LeftBehind []string `json:"left_behind"`

	only   []string
	outbox *config.Outbox
}

// verifyReport is a suite's. Broker is empty in a database's.
type verifyReport struct {
	Broker string             `json:"broker,omitempty"`
	Report conformance.Report `json:"report"`
	// Took is in nanoseconds.
	Took time.Duration `json:"took_ns"`
}

// run verifies what was asked for. Its error says why it could not.
func (v *verified) run(ctx context.Context, cmd *cobra.Command) (err error) {
	made := &scratch{}
	defer func() {
		v.LeftBehind = append(v.LeftBehind, made.clear(context.WithoutCancel(ctx))...)
		if err != nil && len(v.LeftBehind) > 0 { // or nobody would be told
			err = &toldError{errors.Join(err, fmt.Errorf("left behind, to be removed by hand: %s", strings.Join(v.LeftBehind, "; ")))}
		}
	}()
	if err := v.ready(ctx, made); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &usageError{fmt.Errorf("verify cannot run: %w", err)}
	}
	var suites []*verifySuite
	if slices.Contains(v.only, "database") {
		suites = append(suites, databaseSuite(made))
	}
	for _, name := range slices.Sorted(maps.Keys(v.outbox.Brokers)) {
		if slices.Contains(v.only, "broker") {
			suites = append(suites, brokerSuite(made, name))
		}
		if slices.Contains(v.only, "pair") {
			suites = append(suites, pairSuite(made, name))
		}
	}
	for _, suite := range suites {
		began := time.Now()
		var report conformance.Report
		_ = withProgress(ctx, cmd, suite.progress, func() error {
			report = suite.run(ctx)
			return nil
		})
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		v.Reports = append(v.Reports, verifyReport{Broker: suite.broker, Report: report, Took: time.Since(began)})
	}
	return nil
}

// ready finds out whether throw-away outboxes and topics can be made here, and whether connections can be led to where
// harm is done to them: with TLS that insists on a name they cannot.
func (v *verified) ready(ctx context.Context, made *scratch) error {
	if slices.ContainsFunc(v.only, func(part string) bool { return part != "broker" }) {
		dialect, ok := core.Ability[config.ScratchDialect, core.Dialect](v.outbox.Dialect)
		if !ok {
			return fmt.Errorf("no throw-away outbox can be made in %s: its adapter does not know how", v.Database)
		}
		made.database = dialect
		if err := try(&made.databaseHarm, func() (bool, error) { return made.tryOutbox(ctx) }); err != nil {
			return fmt.Errorf("%s: %w", v.Database, err)
		}
	}
	made.brokers, made.brokerHarm = map[string]config.ScratchBroker{}, map[string]*bool{}
	if !slices.ContainsFunc(v.only, func(part string) bool { return part != "database" }) {
		return nil
	}
	for name, broker := range v.outbox.Brokers {
		scratch, ok := core.Ability[config.ScratchBroker](broker)
		if !ok {
			return fmt.Errorf("nothing that is sent to %s can be read back: choose another broker, or --only database", name)
		}
		made.brokers[name] = scratch
		harm := new(bool)
		made.brokerHarm[name] = harm
		if err := try(harm, func() (bool, error) { return made.tryTopic(ctx, name) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// scratchName begins the names of what is made, so that one can be told from all that is not.
func scratchName() string {
	random := make([]byte, 8)
	_, _ = rand.Read(random) // it does not fail
	return "lockstep_verify_" + hex.EncodeToString(random) + "_"
}
