package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create an outbox's tables, or bring them to this version",
		Long: `Create an outbox's tables, or bring them to this version.

--print prints the statements instead, for people who keep their schema with another
tool; with --application and --relay also what these roles need to be granted. It
connects to nothing.

--inbox is about the table of package inbox instead, by which a consumer's database
recognises what it has received. It needs no outbox beside it.`,
		Example: "  lockstep migrate --database postgres://owner@db/shop\n" +
			"  lockstep migrate --inbox --database postgres://owner@db/billing\n" +
			"  lockstep migrate --print --application shop --relay relay --database postgres:///shop | psql shop",
		Args: noArgs,
	}
	s := databaseSettings(cmd)
	yes := yesFlag(cmd)
	printing := cmd.Flags().Bool("print", false, "print the statements, and do nothing")
	application := cmd.Flags().String("application", "", "`role` of the application, for --print")
	relay := cmd.Flags().String("relay", "", "`role` of the relay and of operators, for --print")
	forInbox := cmd.Flags().Bool("inbox", false, "the inbox's table, and not the outbox's")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *forInbox && *application != "" {
			return &usageError{fmt.Errorf("--inbox does not go with --application and --relay: docs/inbox.md says what a consumer needs to be granted")}
		}
		if (*application == "") != (*relay == "") || *application != "" && !*printing {
			return &usageError{fmt.Errorf("--application and --relay go together, and with --print")}
		}
		done := &migrated{Outboxes: []migration{}, inbox: *forInbox, printing: *printing}
		err := s.each(cmd, false, func(ctx context.Context, o *config.Outbox) (err error) {
			m := migration{Outbox: o.Name, Inbox: *forInbox}
			switch {
			case *forInbox:
				err = m.migrateInbox(ctx, cmd, o, *yes, *printing)
			case *printing:
				m.Schema = o.Dialect.Schema()
				if *application != "" {
					m.Grants = o.Dialect.Grants(*application, *relay)
				}
			default:
				err = m.migrate(ctx, cmd, o, *yes)
			}
			if errors.Is(err, errDeclined) {
				err = fmt.Errorf("outbox %s: %w", o.Name, err) // to others it may have been done
			}
			if err == nil {
				done.Outboxes = append(done.Outboxes, m)
			}
			return err
		})
		if err != nil && len(done.Outboxes) == 0 {
			return err
		}
		return errors.Join(err, s.print(cmd, done, done.print)) // what was done before the error, too
	}
	return cmd
}

// migrated is what was done, or is to be done by another tool.
type migrated struct {
	Outboxes []migration `json:"outboxes"`

	inbox, printing bool
}

type migration struct {
	Outbox  string `json:"outbox"`
	Changed bool   `json:"changed"`
	Inbox   bool   `json:"inbox,omitempty"`
	Schema  string `json:"schema,omitempty"`
	Grants  string `json:"grants,omitempty"`
}

func (d *migrated) print(p *printer) {
	for _, m := range d.Outboxes {
		switch {
		case d.printing:
			p.line("%s", m.Schema)
			if m.Grants != "" {
				p.line("%s", m.Grants)
			}
		case d.inbox:
			p.line("the inbox's table is there")
		case m.Changed:
			p.line("outbox %s: the tables are there", m.Outbox)
		default:
			p.line("outbox %s: there was nothing to do", m.Outbox)
		}
	}
}

func (m *migration) migrate(ctx context.Context, cmd *cobra.Command, o *config.Outbox, yes bool) error {
	if o.Dialect.Check(ctx) != nil {
		if err := confirm(cmd, yes, "create or update the tables of outbox %s in %s", o.Name, o.Database); err != nil {
			return err
		}
		m.Changed = true
	}
	before := time.Now()
	err := withProgress(ctx, cmd, func(context.Context) string {
		return fmt.Sprintf("migrating outbox %s for %v", o.Name, time.Since(before).Round(time.Second))
	}, func() error { return o.Dialect.Migrate(ctx) })
	if err != nil {
		return fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	if err := o.Dialect.Check(ctx); err != nil {
		return fmt.Errorf("outbox %s: its tables are there, but: %w", o.Name, err)
	}
	return nil
}

// inboxKeeper is a dialect that keeps an inbox, as this program needs it.
type inboxKeeper interface {
	core.InboxStore
	InboxSchema() string
}

func inboxOf(o *config.Outbox) (inboxKeeper, error) {
	keeper, ok := core.Ability[inboxKeeper](core.Dialect(o.Dialect))
	if !ok {
		return nil, fmt.Errorf("outbox %s: its database keeps no inbox", o.Name)
	}
	return keeper, nil
}

func (m *migration) migrateInbox(ctx context.Context, cmd *cobra.Command, o *config.Outbox, yes, printing bool) error {
	keeper, err := inboxOf(o)
	if err != nil {
		return err
	}
	if printing {
		m.Schema = keeper.InboxSchema()
		return nil
	}
	if err := confirm(cmd, yes, "create the table of the inbox in %s, where it is missing", o.Database); err != nil {
		return err
	}
	before := inboxProblems(ctx, o)
	if err := keeper.MigrateInbox(ctx); err != nil {
		return fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	m.Changed = before < 0 || inboxProblems(ctx, o) < before
	return nil
}

// inboxProblems counts what is wrong with an inbox, of which migrating mends that there is none. It is negative where that cannot
// be found out.
func inboxProblems(ctx context.Context, o *config.Outbox) int {
	examiner, ok := core.Ability[config.InboxExaminer, core.Dialect](o.Dialect)
	if !ok {
		return -1
	}
	found, err := examiner.ExamineInbox(ctx, 0) // of what a retention decides it only warns
	if err != nil {
		return -1
	}
	return len(slices.DeleteFunc(found, func(f config.Finding) bool { return f.Warning }))
}
