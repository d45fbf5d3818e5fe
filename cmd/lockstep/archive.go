package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

func newReplay() *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay", Short: "Have delivered events that were kept delivered again",
		Long: `Have delivered events that were kept (archive in the configuration) delivered again.

Copies take new places in the outbox, behind what is there, in their old order and
with their old ids. A consumer that remembers ids, as one with an inbox does, passes
over those that it has seen: to have it act on them again, make it forget them first.

After an error up to 500 events more than it says may be in the outbox: the database may
have put them there, and its answer was lost. Replayed again they are there twice.`,
		Example: "  lockstep replay --topic orders --key 42\n  lockstep replay --topic orders --since 2026-01-02T15:00:00Z --until 30m",
		Args:    noArgs,
	}
	s := databaseSettings(cmd)
	yes := yesFlag(cmd)
	var f core.ArchiveFilter
	var since, until instant
	everything := cmd.Flags().Bool("all", false, "all that was kept")
	cmd.Flags().StringVar(&f.ID, "id", "", "the one with this `id`")
	cmd.Flags().StringVar(&f.Topic, "topic", "", "those of the `topic`")
	cmd.Flags().StringVar(&f.Key, "key", "", "those of the `key`")
	cmd.Flags().Var(&since, "since", "those that were enqueued then or later")
	cmd.Flags().Var(&until, "until", "those that were enqueued before")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.From, f.To = time.Time(since), time.Time(until)
		if selected := f != (core.ArchiveFilter{}); selected == *everything {
			return &usageError{errors.New("say which: some of --id, --topic, --key, --since and --until, or --all")}
		}
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
			n, err := op.CountArchived(ctx, f)
			if err != nil {
				return err
			}
			done := doneJSON{}
			if n > 0 {
				err := confirm(cmd, *yes, "deliver %d events of outbox %s again, with their old ids, by which a consumer with an inbox passes over what it has seen", n, o.Name)
				if err != nil {
					return err
				}
				before := time.Now()
				err = withProgress(ctx, cmd, func(context.Context) string {
					return fmt.Sprintf("replaying %d events for %v", n, time.Since(before).Round(time.Second))
				}, func() (err error) {
					if done.Done, err = op.Replay(ctx, f); err != nil {
						return &toldError{fmt.Errorf("%d events put into the outbox, and perhaps up to 500 more (replayed again, these come twice, with the same ids), then: %w", done.Done, err)}
					}
					return nil
				})
				if err != nil {
					return err
				}
			}
			return s.print(cmd, done, func(p *printer) {
				p.line("%d events put into the outbox again, with their old ids: a consumer with an inbox passes over what it has seen", done.Done)
			})
		})
	}
	return cmd
}
