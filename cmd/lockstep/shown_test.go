package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/internal/docs"
)

// notScripted are the commands that no script runs, with what does.
var notScripted = map[string]string{
	"bench":  "takes minutes: testdata/brokers/bench.txtar runs the smallest portion of it",
	"demo":   "takes seconds: TestDemoJSON runs it",
	"verify": "harms connections and restarts brokers: TestVerify runs it",
}

// where a command works, and how it talks: a script's differ from a page's.
var where = []string{"config", "database", "broker", "prefix", "schema", "outbox", "listen", "log-level", "log-format", "json", "yes"}

// Every command line of this program that a page or a help text shows is run by a script, and succeeds there: with the same
// flags, and the same values but where the page has a placeholder or the script a variable.
func TestTheCommandLinesThatAreShownAreRun(t *testing.T) {
	t.Parallel()
	scripted := scriptedLines(t)
	if len(scripted) < 50 {
		t.Fatalf("found %d command lines in the scripts, want all of them", len(scripted))
	}
	seen := 0
	look := func(at, line string) {
		for _, words := range docs.Words(line) {
			args, ours := argumentsOf(words)
			if !ours || len(args) == 0 {
				continue
			}
			shown, err := understand(args)
			if err != nil {
				continue // TestTheDocumentsCommandLines says so
			}
			seen++
			if notScripted[shown.path] == "" && !slices.ContainsFunc(scripted, shown.isRunBy) {
				t.Errorf("%s: no script in testdata runs %s: add it to one in testdata/pages", at, strings.Join(words, " "))
			}
		}
	}
	pages, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		for _, line := range page.Lines() {
			if !page.Historic() {
				look(line.At(), line.Text)
			}
		}
	}
	examples(newRoot(), look)
	if seen < 50 {
		t.Errorf("found %d command lines, want those of the pages and the help texts", seen)
	}
	for path, why := range notScripted {
		if cmd, _, err := newRoot().Find([]string{path}); err != nil || cmd.Name() != path || why == "" {
			t.Errorf("%s is no command", path)
		}
	}
}

// commandLine is one of this program.
type commandLine struct {
	path  string // dead list
	flags map[string]string
	args  []string
}

// understand takes a command line apart.
func understand(args []string) (commandLine, error) {
	if slices.Contains([]string{"help", "completion"}, args[0]) {
		return commandLine{path: args[0]}, nil // cobra's own
	}
	cmd, rest, err := newRoot().Find(args)
	if err != nil {
		return commandLine{}, err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return commandLine{}, err
	}
	line := commandLine{path: strings.TrimPrefix(cmd.CommandPath(), "lockstep "), flags: map[string]string{}, args: cmd.Flags().Args()}
	for i, arg := range rest { // as they were written: a flag's own text of them may be another
		name, value, whole := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		f := cmd.Flags().Lookup(name)
		if len(name) == 1 {
			f = cmd.Flags().ShorthandLookup(name)
		}
		if strings.HasPrefix(arg, "-") && f != nil {
			if !whole && f.NoOptDefVal == "" && i+1 < len(rest) {
				value = rest[i+1]
			}
			line.flags[f.Name] = value
		}
	}
	return line, nil
}

// isRunBy: the script's line does what the page shows. A page that only names the command is content with any of its lines.
func (shown commandLine) isRunBy(script commandLine) bool {
	named := len(shown.flags) == 0 && len(shown.args) == 0
	if named {
		return script.path == shown.path || strings.HasPrefix(script.path, shown.path+" ")
	}
	if script.path != shown.path || len(script.args) != len(shown.args) {
		return false
	}
	for i := range shown.args {
		if !stands(shown.args[i], script.args[i]) {
			return false
		}
	}
	for name, value := range shown.flags {
		got, there := script.flags[name]
		if neutral := slices.Contains(where, name); !neutral && (!there || !stands(value, got)) {
			return false
		}
	}
	for name := range script.flags {
		if _, there := shown.flags[name]; !there && !slices.Contains(where, name) {
			return false
		}
	}
	return true
}

// stands: the script's word stands for the page's.
func stands(shown, script string) bool {
	placeholder := strings.ContainsAny(shown, "…$") || shown != "" && strings.Trim(shown, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == ""
	return shown == script || placeholder || strings.HasPrefix(script, "$")
}

// scriptedLines are the command lines of the scripts in testdata that have to succeed.
func scriptedLines(t *testing.T) []commandLine {
	t.Helper()
	var lines []commandLine
	for _, file := range scriptFiles(t, "testdata/*/*.txtar") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "-- ") {
				break // its files
			}
			for _, words := range commandsIn(strings.TrimSpace(line)) {
				understood, err := understand(words)
				if err != nil {
					t.Errorf("%s: %q: %v", file, words, err)
				}
				lines = append(lines, understood)
			}
		}
	}
	return lines
}

// commandsIn returns the arguments of this program's commands in a line of a script.
func commandsIn(line string) (commands [][]string) {
	for _, words := range docs.Words(line) {
		if len(words) > 1 && words[0] == "exec" {
			words = words[1:]
		}
		words = slices.DeleteFunc(words, func(w string) bool { return strings.HasPrefix(w, "2>") })
		switch {
		case len(words) > 2 && words[0] == "sh" && words[1] == "-c":
			commands = append(commands, commandsIn(words[2])...)
		case len(words) > 1 && (words[0] == "run" || words[0] == "lockstep"):
			if words[1] != cobra.ShellCompRequestCmd { // what a shell asks for, of a line that is not finished
				commands = append(commands, words[1:])
			}
		}
	}
	return commands
}

// examples calls look with each example of a command and of those below it.
func examples(cmd *cobra.Command, look func(at, line string)) {
	for line := range strings.Lines(cmd.Example) {
		look(cmd.CommandPath(), strings.TrimSpace(line))
	}
	for _, sub := range cmd.Commands() {
		examples(sub, look)
	}
}
