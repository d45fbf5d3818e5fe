package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

func newDead() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "Look after dead letters: list, show, retry, drop, unblock",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeadList(), newDeadShow(), newDeadRetry(), newDeadDrop(), newDeadUnblock())
	return cmd
}

// deadFlags select dead letters.
type deadFlags struct {
	filter core.DeadFilter
	older  age
	all    bool
}

func newDeadFlags(cmd *cobra.Command) *deadFlags {
	f := &deadFlags{}
	flags := cmd.Flags()
	flags.StringVar(&f.filter.Topic, "topic", "", "those of the `topic`")
	flags.StringVar(&f.filter.Key, "key", "", "those of the `key`")
	flags.StringVar(&f.filter.CauseContains, "cause", "", "those whose cause holds the `text`")
	flags.Var(&f.older, "older-than", "those that died at least so long ago, as in 90m, 12h or 30d")
	return f
}

// filters returns what to act on: the ids, or what the flags select, which must be something.
func (f *deadFlags) filters(ids []string) ([]core.DeadFilter, error) {
	f.filter.OlderThan = time.Duration(f.older)
	selected := f.filter != core.DeadFilter{}
	switch {
	case len(ids) > 0 && (selected || f.all):
		return nil, &usageError{errors.New("give ids, or flags that select, and not both")}
	case len(ids) == 0 && selected == f.all:
		return nil, &usageError{errors.New("say which: ids, or some of --topic, --key, --cause and --older-than, or --all")}
	case len(ids) == 0:
		return []core.DeadFilter{f.filter}, nil
	}
	var filters []core.DeadFilter
	for _, id := range ids {
		if id == "" {
			return nil, &usageError{errors.New("an id is empty")}
		}
		filters = append(filters, core.DeadFilter{ID: id})
	}
	return filters, nil
}

func newDeadList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List dead letters", Args: noArgs}
	s := databaseSettings(cmd)
	f := newDeadFlags(cmd)
	cmd.Flags().BoolVar(&f.filter.Dropped, "dropped", false, "those that were dropped, instead of those that wait")
	limit := cmd.Flags().Int("limit", 100, "at most `n` of them")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		f.filter.OlderThan = time.Duration(f.older)
		if *limit < 1 {
			return &usageError{fmt.Errorf("--limit is %d: it must be positive", *limit)}
		}
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
			letters, err := listDead(ctx, op, f.filter, *limit+1)
			if err != nil {
				return err
			}
			value := struct {
				DeadLetters []eventJSON `json:"dead_letters"`
				More        bool        `json:"more"`
			}{[]eventJSON{}, len(letters) > *limit}
			for _, l := range letters[:min(len(letters), *limit)] {
				value.DeadLetters = append(value.DeadLetters, letterOf(l))
			}
			return s.print(cmd, value, func(p *printer) { printLetters(p, value.DeadLetters, value.More) })
		})
	}
	return cmd
}

func listDead(ctx context.Context, op *core.Operator, filter core.DeadFilter, limit int) (all []core.DeadLetter, err error) {
	const page = 500 // letters have payloads
	for after := (core.Ref{}); len(all) < limit; {
		letters, err := op.List(ctx, filter, after, min(page, limit-len(all)))
		if err != nil || len(letters) == 0 {
			return all, err
		}
		all = append(all, letters...)
		after = letters[len(letters)-1].Ref()
	}
	return all, nil
}

func printLetters(p *printer, letters []eventJSON, more bool) {
	if len(letters) == 0 {
		p.line("no dead letters")
		return
	}
	p.row("ID", "TOPIC", "KEY", "ATTEMPTS", "DIED", "CAUSE")
	for _, l := range letters {
		cause := l.Cause
		if l.DropReason != "" {
			cause = "dropped: " + l.DropReason
		}
		p.row(l.ID, l.Topic, short(l.Key, 40), l.Attempts, ago(l.BuriedAt), short(clean(cause), 100))
	}
	if more {
		p.line("there are more: see --limit, or select some")
	}
}

func newDeadShow() *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "Show a dead letter with headers and payload", Args: exactly("ID")}
	s := databaseSettings(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
			letter, err := op.Show(ctx, args[0])
			if err != nil {
				return err
			}
			e := letterOf(letter).withContent(letter.Message)
			return s.print(cmd, e, func(p *printer) { printLetter(p, e) })
		})
	}
	return cmd
}

func printLetter(p *printer, e eventJSON) {
	p.row("id", e.ID)
	p.row("topic", e.Topic)
	p.row("key", e.Key)
	p.row("position", e.Position)
	p.row("enqueued", stamp(e.EnqueuedAt))
	p.row("died", stamp(e.BuriedAt))
	p.row("attempts", e.Attempts)
	p.row("cause", e.Cause)
	if e.DropReason != "" {
		p.row("dropped", e.DropReason)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		p.row("header "+name, e.Headers[name])
	}
	if e.PayloadBase64 != nil {
		p.line("\n%d bytes that are not text; --json has them in base64", len(e.PayloadBase64))
		return
	}
	p.line("\n%s", clean(e.Payload))
}

// doneJSON is what a bulk action did.
type doneJSON struct {
	Done int `json:"done"`
}

// bulk acts on dead letters: it counts them, asks, and does it, with its progress on standard error.
func bulk(
	cmd *cobra.Command, s *settings, f *deadFlags, yes bool, ids []string, doing, did string,
	act func(ctx context.Context, op *core.Operator, filter core.DeadFilter) (int, error),
) error {
	filters, err := f.filters(ids)
	if err != nil {
		return err
	}
	return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
		count := func(ctx context.Context) (n int64, err error) {
			for _, filter := range filters {
				found, err := op.Count(ctx, filter)
				if err != nil {
					return 0, err
				}
				if n += found; found == 0 && filter.ID != "" {
					return 0, fmt.Errorf("%w: %s", core.ErrNotDead, filter.ID)
				}
			}
			return n, nil
		}
		n, err := count(ctx)
		if err != nil {
			return err
		}
		counted := time.Now()
		done := doneJSON{}
		if n > 0 {
			if err := confirm(cmd, yes, doing, letters(n), o.Name); err != nil {
				return err
			}
			err := withProgress(ctx, cmd, func(ctx context.Context) string { return leftOf(ctx, op, filters, n) }, func() error {
				for _, filter := range filters {
					acted, err := act(ctx, op, filter.AsOf(counted))
					if done.Done += acted; err != nil {
						return &toldError{fmt.Errorf("%s %s, then: %w", letters(int64(done.Done)), did, err)}
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return s.print(cmd, done, func(p *printer) { p.line("%s %s", letters(int64(done.Done)), did) })
	})
}

func leftOf(ctx context.Context, op *core.Operator, filters []core.DeadFilter, of int64) string {
	left := int64(0)
	for _, filter := range filters {
		n, err := op.Count(ctx, filter)
		if err != nil {
			return ""
		}
		left += n
	}
	return fmt.Sprintf("%d of %d", max(0, of-left), of)
}

func letters(n int64) string {
	if n == 1 {
		return "1 dead letter"
	}
	return fmt.Sprintf("%d dead letters", n)
}

func newDeadRetry() *cobra.Command {
	cmd := &cobra.Command{
		Use: "retry [ID...]", Short: "Put dead letters back to their places, and unblock their keys",
		Example: "  lockstep dead retry 0190a6c8-…\n  lockstep dead retry --topic orders --cause \"Message Size Too Large\"",
	}
	s := databaseSettings(cmd)
	f := newDeadFlags(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "every dead letter")
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return bulk(cmd, s, f, *yes, args, "put %s of outbox %s back, to be sent again", "put back",
			func(ctx context.Context, op *core.Operator, filter core.DeadFilter) (int, error) {
				return op.Retry(ctx, filter)
			})
	}
	return cmd
}

func newDeadDrop() *cobra.Command {
	cmd := &cobra.Command{
		Use: "drop [ID...] --reason TEXT", Short: "Give dead letters up for good, and unblock their keys; they are kept with the reason",
	}
	s := databaseSettings(cmd)
	f := newDeadFlags(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "every dead letter")
	reason := cmd.Flags().String("reason", "", "why, which is kept with the dead letter")
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *reason == "" {
			return &usageError{errors.New("--reason is missing: it is the only trace of why the event was never delivered")}
		}
		return bulk(cmd, s, f, *yes, args, "give up %s of outbox %s, which will never be sent", "dropped",
			func(ctx context.Context, op *core.Operator, filter core.DeadFilter) (int, error) {
				return op.Drop(ctx, filter, *reason)
			})
	}
	return cmd
}

func newDeadUnblock() *cobra.Command {
	cmd := &cobra.Command{
		Use: "unblock [TOPIC KEY]", Short: "Let keys go on without their dead letters, which stay",
		Example: "  lockstep dead unblock orders 42\n  lockstep dead unblock --topic orders --cause \"Message Size Too Large\"",
	}
	s := databaseSettings(cmd)
	f := newDeadFlags(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "every blocked key")
	yes := yesFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return unblockAll(cmd, s, f, *yes)
		}
		if f.all || f.older != 0 || f.filter != (core.DeadFilter{}) {
			return &usageError{errors.New("give a topic and a key, or flags that select, and not both")}
		}
		if err := exactly("TOPIC", "KEY")(cmd, args); err != nil {
			return err
		}
		return unblock(cmd, s, args[0], args[1], *yes)
	}
	return cmd
}

func unblock(cmd *cobra.Command, s *settings, topic, key string, yes bool) error {
	if key == "" {
		return &usageError{errors.New("the key is empty: events without a key block nothing; a paused topic goes on by topic resume")}
	}
	return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
		err := confirm(cmd, yes, "let key %q of topic %s go on without its dead letters, whose order is then given up", key, topic)
		if err != nil {
			return err
		}
		blocked, err := op.Unblock(ctx, topic, key)
		if err != nil {
			return err
		}
		value := changedJSON{blocked}
		return s.print(cmd, value, func(p *printer) {
			if blocked {
				p.line("the key goes on")
			} else {
				p.line("the key was not blocked")
			}
		})
	})
}

// unblockAll lets the keys go on that are blocked by dead letters which f selects.
func unblockAll(cmd *cobra.Command, s *settings, f *deadFlags, yes bool) error {
	f.filter.OlderThan = time.Duration(f.older)
	if selected := f.filter != (core.DeadFilter{}); selected == f.all {
		return &usageError{errors.New("say which: a topic and a key, or some of --topic, --key, --cause and --older-than, or --all")}
	}
	return s.operate(cmd, func(ctx context.Context, o *config.Outbox, op *core.Operator) error {
		n, err := op.Count(ctx, f.filter)
		if err != nil {
			return err
		}
		counted := time.Now()
		done := doneJSON{}
		if n > 0 {
			if err := confirm(cmd, yes, "let the keys go on that %s of outbox %s block, whose order is then given up", letters(n), o.Name); err != nil {
				return err
			}
			before := time.Now()
			err := withProgress(ctx, cmd, func(context.Context) string {
				return fmt.Sprintf("unblocking the keys of %s for %v", letters(n), time.Since(before).Round(time.Second))
			}, func() (err error) {
				if done.Done, err = op.UnblockAll(ctx, f.filter.AsOf(counted)); err != nil {
					return &toldError{fmt.Errorf("%s unblocked, then: %w", keysOf(done.Done), err)}
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return s.print(cmd, done, func(p *printer) { p.line("%s unblocked", keysOf(done.Done)) })
	})
}

func keysOf(n int) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}

type changedJSON struct {
	Changed bool `json:"changed"`
}

// exactly is cobra.ExactArgs as a usage error that names what is missing.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return &usageError{fmt.Errorf("%s needs %d arguments, %v, and was given %d; see %[1]s --help", cmd.CommandPath(), len(names), names, len(args))}
		}
		return nil
	}
}
