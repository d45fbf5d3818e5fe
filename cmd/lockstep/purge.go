package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

const purgeHelp = `Remove delivered events that were kept, and dead letters that were dropped.

--inbox is about the table of package inbox instead, in a consumer's database: it
forgets the ids of messages that cannot come again. A duplicate can come as late as
the longest outage of the relay and the broker's retention together. A smaller age
is refused, because its effect would happen twice.`

func newPurge() *cobra.Command {
	cmd := &cobra.Command{
		Use: "purge --older-than AGE", Short: "Remove delivered events that were kept, dropped dead letters, or ids from an inbox", Long: purgeHelp,
		Example: "  lockstep purge --older-than 30d --yes\n" +
			"  lockstep purge --inbox --older-than 30d --yes --database postgres://consumer@db/billing",
		Args: noArgs,
	}
	s := databaseSettings(cmd)
	yes := yesFlag(cmd)
	var older, broker, outage age
	forInbox := cmd.Flags().Bool("inbox", false, "the inbox's ids, and nothing of an outbox")
	cmd.Flags().Var(&older, "older-than", "those that were delivered, dropped or received at least so long ago, as in 12h or 30d; required")
	cmd.Flags().Var(&broker, "broker-retention", "how long the broker keeps a message, with --inbox; without it 7d")
	cmd.Flags().Var(&outage, "longest-outage", "how long a relay may be away, with --inbox; without it 7d")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		flags := cmd.Flags()
		if !flags.Changed("older-than") {
			return &usageError{errors.New("--older-than is missing: say how old, as in 30d; 0s is all, of an outbox")}
		}
		if !*forInbox {
			if flags.Changed("broker-retention") || flags.Changed("longest-outage") {
				return &usageError{errors.New("--broker-retention and --longest-outage go with --inbox")}
			}
			return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
				return purgeOutbox(ctx, cmd, s, o, op, *yes, time.Duration(older))
			})
		}
		// An age of zero, which is the configuration's default, is the shortest of all here.
		keep := inbox.Config{Retention: max(time.Duration(older), 1), BrokerRetention: time.Duration(broker), LongestOutage: time.Duration(outage)}
		if err := keep.Validate(); err != nil {
			return &usageError{fmt.Errorf("--older-than: %w (--broker-retention and --longest-outage)", err)}
		}
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, _ *core.Operator) error {
			return purgeInbox(ctx, cmd, s, o, *yes, keep.Retention)
		})
	}
	return cmd
}

func purgeOutbox(ctx context.Context, cmd *cobra.Command, s *settings, o *config.Outbox, op *core.Operator, yes bool, older time.Duration) error {
	err := confirm(cmd, yes, "remove from outbox %s, for good, what was delivered and kept, or dropped, %v ago or earlier", o.Name, older)
	if err != nil {
		return err
	}
	before, done := time.Now(), doneJSON{}
	err = withProgress(ctx, cmd, func(context.Context) string {
		return fmt.Sprintf("purging for %v", time.Since(before).Round(time.Second))
	}, func() (err error) {
		if done.Done, err = op.Purge(ctx, older); err != nil {
			return &toldError{fmt.Errorf("%d removed, then: %w", done.Done, err)}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return s.print(cmd, done, func(p *printer) { p.line("%d removed", done.Done) })
}

// forgetAtOnce is how many ids one transaction forgets, as Inbox.Purge does.
const forgetAtOnce = 1000

func purgeInbox(ctx context.Context, cmd *cobra.Command, s *settings, o *config.Outbox, yes bool, older time.Duration) error {
	keeper, err := inboxOf(o)
	if err != nil {
		return err
	}
	if err := confirm(cmd, yes, "forget what was received %v ago or earlier, for good, in the inbox in %s", older, o.Database); err != nil {
		return err
	}
	var gone atomic.Int64
	before := time.Now()
	err = withProgress(ctx, cmd, func(context.Context) string {
		return fmt.Sprintf("%d ids forgotten in %v", gone.Load(), time.Since(before).Round(time.Second))
	}, func() error {
		for {
			n, err := keeper.Forget(ctx, older, forgetAtOnce)
			gone.Add(int64(n))
			switch {
			case err != nil:
				return &toldError{fmt.Errorf("%d ids forgotten, then: %w", gone.Load(), err)}
			case n < forgetAtOnce:
				return nil
			}
		}
	})
	if err != nil {
		return err
	}
	done := doneJSON{Done: int(gone.Load())}
	return s.print(cmd, done, func(p *printer) { p.line("%d ids forgotten", done.Done) })
}
