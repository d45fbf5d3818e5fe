package main

import (
	"context"
	"fmt"

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
			"  lockstep migrate --print --application shop --relay relay --database postgres: | psql shop",
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
		if *forInbox {
			return s.each(cmd, false, func(ctx context.Context, o *config.Outbox) error {
				return migrateInbox(ctx, cmd, s, o, *yes, *printing)
			})
		}
		if *printing {
			return s.each(cmd, false, func(_ context.Context, o *config.Outbox) error {
				return printSchema(cmd, s, o, *application, *relay)
			})
		}
		return s.each(cmd, false, func(ctx context.Context, o *config.Outbox) error { return migrate(ctx, cmd, s, o, *yes) })
	}
	return cmd
}

func printSchema(cmd *cobra.Command, s *settings, o *config.Outbox, application, relay string) error {
	value := struct {
		Outbox string `json:"outbox"`
		Schema string `json:"schema"`
		Grants string `json:"grants,omitempty"`
	}{Outbox: o.Name, Schema: o.Dialect.Schema()}
	if application != "" {
		value.Grants = o.Dialect.Grants(application, relay)
	}
	return s.print(cmd, value, func(p *printer) {
		p.line("%s", value.Schema)
		if value.Grants != "" {
			p.line("%s", value.Grants)
		}
	})
}

func migrate(ctx context.Context, cmd *cobra.Command, s *settings, o *config.Outbox, yes bool) error {
	value := struct {
		Outbox  string `json:"outbox"`
		Changed bool   `json:"changed"`
	}{Outbox: o.Name}
	if o.Dialect.Check(ctx) != nil {
		if err := confirm(cmd, yes, "create or update the tables of outbox %s in %s", o.Name, o.Database); err != nil {
			return err
		}
		value.Changed = true
	}
	if err := o.Dialect.Migrate(ctx); err != nil {
		return fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	if err := o.Dialect.Check(ctx); err != nil {
		return fmt.Errorf("outbox %s: its tables are there, but: %w", o.Name, err)
	}
	return s.print(cmd, value, func(p *printer) {
		if value.Changed {
			p.line("outbox %s: the tables are there", o.Name)
		} else {
			p.line("outbox %s: there was nothing to do", o.Name)
		}
	})
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

func migrateInbox(ctx context.Context, cmd *cobra.Command, s *settings, o *config.Outbox, yes, printing bool) error {
	keeper, err := inboxOf(o)
	if err != nil {
		return err
	}
	if printing {
		value := struct {
			Outbox string `json:"outbox"`
			Schema string `json:"schema"`
		}{o.Name, keeper.InboxSchema()}
		return s.print(cmd, value, func(p *printer) { p.line("%s", value.Schema) })
	}
	if err := confirm(cmd, yes, "create the table of the inbox in %s, where it is missing", o.Database); err != nil {
		return err
	}
	if err := keeper.MigrateInbox(ctx); err != nil {
		return fmt.Errorf("outbox %s: %w", o.Name, err)
	}
	value := struct {
		Outbox string `json:"outbox"`
		Inbox  bool   `json:"inbox"`
	}{o.Name, true}
	return s.print(cmd, value, func(p *printer) { p.line("the inbox's table is there") })
}
