package main

import (
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
)

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Check the configuration", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use: "check", Short: "Say everything that is wrong with a configuration, and connect to nothing", Args: noArgs,
	}
	s := newSettings(check, "database", "broker", "prefix", "schema", "listen", "log.level", "log.format")
	s.jsonFlag(check)
	check.RunE = func(cmd *cobra.Command, _ []string) error { return checkConfig(cmd, s) }
	cmd.AddCommand(check)
	return cmd
}

// checkConfig prints the problems as JSON where that is asked for, and fails in any case.
func checkConfig(cmd *cobra.Command, s *settings) error {
	type outbox struct {
		Name     string `json:"name"`
		Database string `json:"database"`
		Broker   string `json:"broker"`
	}
	type problem struct {
		Line  int    `json:"line,omitempty"`
		Field string `json:"field,omitempty"`
		Text  string `json:"text"`
	}
	value := struct {
		Valid    bool      `json:"valid"`
		Problems []problem `json:"problems"`
		Outboxes []outbox  `json:"outboxes"`
	}{Problems: []problem{}, Outboxes: []outbox{}}
	c, err := s.load(cmd, false)
	if err == nil {
		var opened *config.Opened
		if opened, err = all.Registry().Open(c, slog.New(slog.DiscardHandler)); err == nil {
			err = opened.Close()
		} else {
			err = &usageError{err}
		}
	}
	var wrong *config.Error
	if err != nil && (!s.json || !errors.As(err, &wrong)) {
		return err
	}
	value.Valid = err == nil
	if wrong != nil {
		for _, p := range wrong.Problems {
			value.Problems = append(value.Problems, problem(p))
		}
	} else {
		for _, o := range c.Outboxes {
			value.Outboxes = append(value.Outboxes, outbox{o.Name, o.Database.String(), o.Broker.String()})
		}
	}
	if printed := s.print(cmd, value, func(p *printer) {
		for _, o := range value.Outboxes {
			p.line("outbox %s: %s to %s", o.Name, o.Database, o.Broker)
		}
		p.line("the configuration is valid")
	}); printed != nil {
		return printed
	}
	return err
}
