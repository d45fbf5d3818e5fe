package main

import (
	"slices"
	"testing"

	"github.com/spf13/cobra"
)

// leaves calls visit with each command that does something.
func leaves(cmd *cobra.Command, visit func(cmd *cobra.Command)) {
	if !cmd.HasSubCommands() {
		visit(cmd)
	}
	for _, sub := range cmd.Commands() {
		leaves(sub, visit)
	}
}

// Every command prints JSON where it is asked for, but the one that runs until it is stopped.
func TestEveryCommandPrintsJSON(t *testing.T) {
	t.Parallel()
	seen := 0
	leaves(newRoot(), func(cmd *cobra.Command) {
		seen++
		if has := cmd.Flags().Lookup("json") != nil; has == (cmd.CommandPath() == "lockstep relay") {
			t.Errorf("%s has a flag --json: %v", cmd.CommandPath(), has)
		}
	})
	if seen < 15 {
		t.Errorf("found %d commands, want all", seen)
	}
}

// A command that changes something asks, which testdata/operator sees each of them do; one that only looks has nothing to ask.
func TestWhoAsks(t *testing.T) {
	t.Parallel()
	want := []string{
		"lockstep dead drop", "lockstep dead retry", "lockstep dead unblock", "lockstep migrate", "lockstep purge", "lockstep replay",
		"lockstep topic pause", "lockstep topic resume",
	}
	var got []string
	leaves(newRoot(), func(cmd *cobra.Command) {
		if cmd.Flags().Lookup("yes") != nil {
			got = append(got, cmd.CommandPath())
		}
	})
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("these ask: %q, want %q", got, want)
	}
}
