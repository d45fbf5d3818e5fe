package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

func newTopic() *cobra.Command {
	cmd := &cobra.Command{
		Use: "topic", Short: "Pause and resume topics", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTopicAction("pause", "Keep a topic's events in the outbox until it is resumed",
			"keep the events of topic %s in the outbox, all but the few thousand that a relay may have in memory", "the topic is paused", "the topic was paused already", (*core.Operator).PauseTopic),
		newTopicAction("resume", "Let a topic's events go on",
			"let the events of topic %s go on", "the topic goes on", "the topic was not paused", (*core.Operator).ResumeTopic),
	)
	return cmd
}

func newTopicAction(
	name, what, doing, changed, unchanged string, act func(*core.Operator, context.Context, string) (bool, error),
) *cobra.Command {
	cmd := &cobra.Command{Use: name + " TOPIC", Short: what, Args: exactly("TOPIC")}
	s := databaseSettings(cmd)
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if args[0] == "" {
			return &usageError{errors.New("the topic is empty")}
		}
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
			if err := confirm(cmd, *yes, doing, args[0]); err != nil {
				return err
			}
			did, err := act(op, ctx, args[0])
			if err != nil {
				return err
			}
			return s.print(cmd, changedJSON{did}, func(p *printer) {
				if did {
					p.line("%s", changed)
				} else {
					p.line("%s", unchanged)
				}
			})
		})
	}
	return cmd
}
