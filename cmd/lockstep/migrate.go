package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create an outbox's tables, or bring them to this version",
		Long: `Create an outbox's tables, or bring them to this version.

--print prints the statements instead, for people who keep their schema with another
tool; with --application and --relay also what these roles need to be granted. It
connects to nothing.`,
		Example: "  lockstep migrate --database postgres://owner@db/shop\n" +
			"  lockstep migrate --print --application shop --relay relay --database postgres: | psql shop",
		Args: noArgs,
	}
	s := databaseSettings(cmd)
	yes := yesFlag(cmd)
	printing := cmd.Flags().Bool("print", false, "print the statements, and do nothing")
	application := cmd.Flags().String("application", "", "`role` of the application, for --print")
	relay := cmd.Flags().String("relay", "", "`role` of the relay and of operators, for --print")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if (*application == "") != (*relay == "") || *application != "" && !*printing {
			return &usageError{fmt.Errorf("--application and --relay go together, and with --print")}
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
