package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
)

// configVariable names the file where there is no --config.
const configVariable = "LOCKSTEP_CONFIG"

// settings are the flags of every command that works on outboxes.
type settings struct {
	file   string
	flags  map[string]*string // by the setting's path
	outbox string
	json   bool
}

func newSettings(cmd *cobra.Command, paths ...string) *settings {
	s := &settings{flags: map[string]*string{}}
	flags := cmd.Flags()
	flags.StringVarP(&s.file, "config", "c", "", "configuration `file` (also "+configVariable+")")
	for _, f := range []struct{ path, usage string }{
		{"database", "`URL` of the outbox's database, instead of the configuration's"},
		{"broker", "`URL` of the broker, instead of the configuration's"},
		{"prefix", "`text` before the name of each table, instead of the configuration's"},
		{"schema", "`name` of the tables' schema, instead of the configuration's"},
		{"listen", "`host:port` of health, readiness and metrics, or off"},
		{"log.level", "least `level` that is logged: debug, info, warn, error"},
		{"log.format", "`format` of logs: text or json"},
	} {
		if slices.Contains(paths, f.path) {
			s.flags[f.path] = flags.String(strings.ReplaceAll(f.path, ".", "-"), "", f.usage)
		}
	}
	_ = cmd.MarkFlagFilename("config", "yaml", "yml") // there is such a flag
	return s
}

// databaseSettings are the flags of a command that works on one outbox's database, and prints text or JSON.
func databaseSettings(cmd *cobra.Command) *settings {
	s := newSettings(cmd, "database", "prefix", "schema")
	cmd.Flags().StringVar(&s.outbox, "outbox", "", "`name` of the outbox, where there are several")
	s.jsonFlag(cmd)
	return s
}

func (s *settings) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&s.json, "json", false, "print one JSON object and nothing else")
}

// load reads the configuration. What is wrong with it is a usage error.
func (s *settings) load(cmd *cobra.Command, noBroker bool) (config.Config, error) {
	source := config.Source{File: s.file, NoBroker: noBroker, Flags: map[string]string{}}
	if source.File == "" {
		source.File = os.Getenv(configVariable)
	}
	for path, value := range s.flags {
		if cmd.Flags().Changed(strings.ReplaceAll(path, ".", "-")) {
			source.Flags[path] = *value
		}
	}
	c, err := all.Registry().Load(source)
	if err != nil {
		return c, &usageError{err}
	}
	return c, nil
}

// each runs use with every outbox that the command is for. Brokers are opened only where they are wanted.
func (s *settings) each(cmd *cobra.Command, brokers bool, use func(ctx context.Context, o *config.Outbox) error) (err error) {
	c, err := s.load(cmd, !brokers)
	if err != nil {
		return err
	}
	registry := all.Registry()
	var opened *config.Opened
	if brokers {
		opened, err = registry.Open(c, slog.New(slog.DiscardHandler))
	} else {
		opened, err = registry.OpenDatabases(c)
	}
	if err != nil {
		return &usageError{err}
	}
	defer func() { err = errors.Join(err, opened.Close()) }()
	var names []string
	for i := range opened.Outboxes {
		o := &opened.Outboxes[i]
		names = append(names, o.Name)
		if s.outbox == "" || s.outbox == o.Name {
			if err := use(cmd.Context(), o); err != nil {
				return err
			}
		}
	}
	if s.outbox != "" && !slices.Contains(names, s.outbox) {
		return &usageError{fmt.Errorf("there is no outbox %q: there are %s", s.outbox, strings.Join(names, ", "))}
	}
	return nil
}

// operate runs use with the one outbox that the command is for.
func (s *settings) operate(cmd *cobra.Command, use func(ctx context.Context, o *config.Outbox, op *core.Operator) error) error {
	c, err := s.load(cmd, true)
	if err != nil {
		return err
	}
	if len(c.Outboxes) > 1 && s.outbox == "" {
		var names []string
		for _, o := range c.Outboxes {
			names = append(names, o.Name)
		}
		return &usageError{fmt.Errorf("there are several outboxes: choose one by --outbox: %s", strings.Join(names, ", "))}
	}
	return s.each(cmd, false, func(ctx context.Context, o *config.Outbox) error {
		return use(ctx, o, core.NewOperator(o.Dialect))
	})
}

// print writes value as JSON, or what text does with the command's output.
func (s *settings) print(cmd *cobra.Command, value any, text func(p *printer)) error {
	if s.json {
		encoder := json.NewEncoder(cmd.OutOrStdout())
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		return encoder.Encode(value)
	}
	p := newPrinter(cmd.OutOrStdout())
	text(p)
	return p.flush()
}
