package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// heldJSON is what waits.
type heldJSON struct {
	Failing []eventJSON   `json:"failing"`
	Blocked []blockedJSON `json:"blocked"`
	More    bool          `json:"more"`
}

type blockedJSON struct {
	Topic    string    `json:"topic"`
	Key      string    `json:"key,omitempty"`
	Paused   bool      `json:"paused"`
	Position int64     `json:"position,omitempty"`
	Since    time.Time `json:"since"`
}

func newHeld() *cobra.Command {
	cmd := &cobra.Command{
		Use: "held", Short: "List what is held back", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the events that were refused and are tried again, and the keys and topics that wait for an operator",
		Long: `List the events that were refused and are tried again, and the keys and topics that wait for an operator.

What a relay holds in memory alone, because a topic or the broker is away, is not in
the database. That relay's log says why, once a minute for each topic; its metrics
lockstep_held_keys and lockstep_held_topics say how much; /readyz the last cause.`, Args: noArgs,
	}
	s := databaseSettings(list)
	limit := list.Flags().Int("limit", 100, "at most `n` of each")
	list.RunE = func(cmd *cobra.Command, _ []string) error {
		if *limit < 1 {
			return &usageError{fmt.Errorf("--limit is %d: it must be positive", *limit)}
		}
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
			held, err := heldOf(ctx, op, *limit)
			if err != nil {
				return err
			}
			return s.print(cmd, held, held.print)
		})
	}
	cmd.AddCommand(list)
	return cmd
}

func heldOf(ctx context.Context, op *core.Operator, limit int) (held heldJSON, err error) {
	failing, err := op.Failing(ctx, 0, limit+1)
	if err != nil {
		return held, err
	}
	blocked, err := blockedKeys(ctx, op, limit+1)
	if err != nil {
		return held, err
	}
	held = heldJSON{Failing: []eventJSON{}, Blocked: []blockedJSON{}, More: len(failing) > limit || len(blocked) > limit}
	for _, r := range failing[:min(limit, len(failing))] {
		held.Failing = append(held.Failing, recordOf(r))
	}
	for _, b := range blocked[:min(limit, len(blocked))] {
		held.Blocked = append(held.Blocked, blockedJSON{b.Topic, b.Key, isPause(b), b.Position, b.Since.UTC()})
	}
	return held, nil
}

func (h heldJSON) print(p *printer) {
	if len(h.Failing)+len(h.Blocked) == 0 {
		p.line("nothing is held back in the database: what a relay holds in memory alone, its log and its metrics tell")
		return
	}
	p.row("TOPIC", "KEY", "WAITS FOR")
	for _, e := range h.Failing {
		p.row(e.Topic, short(e.Key, 40), fmt.Sprintf("attempt %d of event %s, in %v", e.Attempts+1, e.ID,
			time.Duration(e.RetryIn*float64(time.Second)).Round(time.Second)))
	}
	for _, b := range h.Blocked {
		if b.Paused {
			p.row(b.Topic, "(all)", "topic resume; paused "+ago(b.Since))
			continue
		}
		p.row(b.Topic, short(b.Key, 40), "dead retry, drop or unblock; blocked "+ago(b.Since))
	}
	if h.More {
		p.line("there are more: see --limit")
	}
}
