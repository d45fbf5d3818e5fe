package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
)

// Every command line of this program that a page shows can be carried out: its commands, flags and the number of its
// arguments are those that there are.
func TestTheDocumentsCommandLines(t *testing.T) {
	t.Parallel()
	pages, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, page := range pages {
		if page.Historic() {
			continue
		}
		for _, line := range page.Lines() {
			for _, words := range docs.Words(line.Text) {
				args, ours := argumentsOf(words)
				if !ours {
					continue
				}
				seen++
				if err := parse(args); err != nil {
					t.Errorf("%s: %s: %v", line.At(), strings.Join(words, " "), err)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("found %d command lines, want those of the README and the runbook", seen)
	}
}

// argumentsOf returns what follows the program's name, however it is called.
func argumentsOf(words []string) ([]string, bool) {
	for len(words) > 0 && strings.Contains(words[0], "=") { // variables
		words = words[1:]
	}
	for _, name := range [][]string{{"lockstep"}, {"bin/lockstep"}, {"go", "run", "./cmd/lockstep"}, {"go", "run", "../../cmd/lockstep"}} {
		if len(words) >= len(name) && slices.Equal(words[:len(name)], name) {
			return words[len(name):], true
		}
	}
	return nil, false
}

// parse does with a command line what the program does before it begins to work.
func parse(args []string) error {
	if len(args) > 0 && slices.Contains([]string{"help", "completion"}, args[0]) {
		return nil // cobra's own
	}
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if help, err := cmd.Flags().GetBool("help"); err == nil && help {
		return nil
	}
	if cmd.HasSubCommands() && cmd.Flags().NArg() == 0 {
		return nil // `lockstep dead` names a group of commands
	}
	for _, arg := range cmd.Flags().Args() {
		if strings.ContainsAny(arg, "…") {
			return nil // and what else there is
		}
	}
	if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
		return err
	}
	return cmd.ValidateRequiredFlags()
}

func TestParseRefusesWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{
		"relay --config lockstep.yaml":           true,
		"dead retry ID":                          true,
		"dead drop ID --reason text":             true,
		"relay --help":                           true,
		"relay --confg lockstep.yaml":            false,
		"relay --config":                         false,
		"relais":                                 false,
		"dead list --json surplus":               false,
		"dead bury ID":                           false,
		"dead show":                              false,
		"relay --database sqlite:x --lanes many": false,
	} {
		if err := parse(strings.Fields(line)); (err == nil) != want {
			t.Errorf("%s: got %v, want it to be right %t", line, err, want)
		}
	}
}
