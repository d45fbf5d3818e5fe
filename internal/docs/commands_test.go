package docs_test

import (
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
)

// runElsewhere says who runs the command lines that begin so, or why nobody does.
var runElsewhere = map[string]string{
	"lockstep":              "cmd/lockstep's tests",
	"go run ./cmd/lockstep": "cmd/lockstep's tests",
	"scripts/services":      "make test starts, kills and pauses the servers with it",
	"eval":                  "make test takes the servers' addresses so",
	"make":                  "TestMake sees that the target is there; CI makes lint and test, which are the parts of the others",
	"cd":                    "what follows is looked at in that folder",
	"export":                "what follows has the variable",
	"sqlite3":               "examples/quickstart's tests",
	"git":                   "not run: a test does not download this tree",
	"go get":                "not run: it asks the Internet for a release",
	"go install":            "not run: it installs a release from the Internet",
	"go mod tidy":           "make lint runs it",
	"docker compose":        "not run: Docker is not where CI is; TestCompose holds compose.yaml against scripts/services",
	"systemctl":             "not run: CI's machine has no systemd; TestSystemdUnit holds the unit against the program",
	"kafka-topics.sh":       "not run: it is Kafka's",
}

var programs = regexp.MustCompile(`^(go|git|make|eval|cd|export|docker|kubectl|systemctl|sudo|apt|apt-get|psql|mysql|mariadb|sqlite3|pg_\w+|curl|kafka-\S+|rabbitmqctl|scripts/\S+|\.ci/run|bin/lockstep)$`)

// Every command that a page shows is run by a test, or stands above with the reason why not.
func TestTheCommandsAreRun(t *testing.T) {
	used := map[string]bool{}
	seen := 0
	for _, page := range read(t) {
		if page.Historic() {
			continue
		}
		dir, before := "", 0
		for i, line := range page.Lines() {
			if line.Line != before+1 || i < len(page.Spans) {
				dir = path.Dir(page.Path) // a block begins
			}
			before = line.Line
			for _, words := range docs.Words(line.Text) {
				for len(words) > 0 && strings.Contains(words[0], "=") { // variables
					words = words[1:]
				}
				if len(words) == 0 || i < len(page.Spans) && (len(words) == 1 || !programs.MatchString(words[0])) {
					continue // no command, but other code in the text
				}
				seen++
				switch command := strings.Join(words, " "); {
				case words[0] == "cd" && len(words) == 2 && exists(words[1]):
					dir = words[1]
				case strings.HasPrefix(command, "go run ") && !strings.HasPrefix(command, "go run ./cmd/"):
					if fault := ranBy(t, words[2], dir); fault != "" {
						t.Errorf("%s: %s: %s", line.At(), command, fault)
					}
				case strings.HasPrefix(command, "go test"):
					for _, fault := range untested(t, words[2:], dir) {
						t.Errorf("%s: %s: %s", line.At(), command, fault)
					}
				default:
					prefix := beginning(command)
					if used[prefix] = true; prefix == "" {
						t.Errorf("%s: no test is known to run %s", line.At(), command)
					}
				}
			}
		}
	}
	for prefix := range runElsewhere {
		if !used[prefix] {
			t.Errorf("no page shows %s: take it out of this test", prefix)
		}
	}
	if seen < 60 {
		t.Errorf("found %d commands, want those of all pages", seen)
	}
}

// beginning returns the entry of runElsewhere that the command begins with.
func beginning(command string) string {
	for prefix := range runElsewhere {
		if command == prefix || strings.HasPrefix(command, prefix+" ") {
			return prefix
		}
	}
	return ""
}

// ranBy returns what is wrong with `go run target` in a folder: the tests of the example do not run it.
func ranBy(t *testing.T, target, dir string) (fault string) {
	if strings.HasPrefix(target, "./") {
		dir = path.Clean(target)
	}
	parts := strings.Split(dir, "/")
	if len(parts) < 2 || parts[0] != "examples" || !exists(dir+"/main.go") {
		return "that is none of the examples"
	}
	fault = "no test in examples/" + parts[1] + " runs it"
	sources(t, "examples/"+parts[1], func(name, text string) {
		here := len(parts) == 2 && (strings.Contains(text, "docs.Prints(") || strings.Contains(text, `"go", "run", "."`))
		if strings.HasSuffix(name, "_test.go") && (here || strings.Contains(text, `"./`+dir+`"`)) {
			fault = ""
		}
	})
	return fault
}

// untested returns what is wrong with the arguments of a `go test` in a folder: packages without tests, and names that no test has.
func untested(t *testing.T, args []string, dir string) (faults []string) {
	var named []string // the patterns of -run and -bench
	tests := map[string]bool{}
	for i, arg := range args {
		switch {
		case (arg == "-run" || arg == "-bench") && i+1 < len(args):
			name, _, _ := strings.Cut(args[i+1], "/")
			named = append(named, name)
		case arg == "." || strings.HasPrefix(arg, "./"):
			if strings.HasPrefix(arg, "./") {
				dir = path.Clean(strings.TrimSuffix(arg, "/..."))
			}
			found := len(tests)
			sources(t, dir, func(name, text string) {
				if strings.HasSuffix(arg, "/...") || filepath.Dir(name) == filepath.Join(root, filepath.FromSlash(dir)) {
					for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
						tests[m[1]] = true
					}
				}
			})
			if len(tests) == found {
				faults = append(faults, dir+" has no tests")
			}
		}
	}
	for _, name := range named {
		if name != "^$" && !slices.ContainsFunc(slices.Collect(maps.Keys(tests)), regexp.MustCompile(name).MatchString) {
			faults = append(faults, "there is no "+name)
		}
	}
	return faults
}
