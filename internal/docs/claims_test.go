package docs_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
)

func parse(t *testing.T, path, text string) *docs.Page {
	t.Helper()
	page, err := docs.Parse(path, text)
	if err != nil {
		t.Fatal(err)
	}
	return page
}

// Each of the faults that the tests of the documents are there to find is found.
func TestLeads(t *testing.T) {
	pages := []*docs.Page{
		parse(t, "README.md", "# Lockstep\n\n## At `work`: how?\n\n```sh\n# no heading\n```\n## Twice\n## Twice\n"),
		parse(t, "docs/a.md", "# A\n"),
	}
	exists := func(path string) bool {
		return slices.Contains([]string{"README.md", "docs", "docs/a.md", "main.go"}, path)
	}
	for link, right := range map[string]bool{
		"../README.md":              true,
		"../README.md#at-work-how":  true,
		"../README.md#twice-1":      true,
		"#a":                        true,
		"a.md":                      true,
		"../docs":                   true,
		"b.md":                      false,
		"#b":                        false,
		"../README.md#no-heading":   false,
		"../README.md#twice-2":      false,
		"../main.go#a":              false,
		"../../main.go":             false,
		"/README.md":                false,
		"../README.md#At-work-how":  false,
		"../README.md#at-work--how": false,
	} {
		if faults := docs.Leads(docs.Span{Page: "docs/a.md", Line: 1, Text: link}, pages, exists); (len(faults) == 0) != right {
			t.Errorf("%s: got %q, want it to be right %t", link, faults, right)
		}
	}
}

func TestShows(t *testing.T) {
	source := func(path string) (string, error) {
		if path != "examples/a/main.go" {
			return "", errors.New("no such file")
		}
		return "package main\n\nfunc main() {\n\tif true {\n\t\trun()\n\t}\n}\n", nil
	}
	for block, right := range map[string]bool{
		"go examples/a/main.go\nif true {\n\trun()\n}\n":   true,
		"go examples/a/main.go\nif true {\n\tran()\n}\n":   false,
		"go examples/a/main.go\ntrue {\n\trun()\n}\n":      false,
		"go examples/a/main.go\n\n":                        false,
		"go examples/b/main.go\nif true {\n\trun()\n}\n":   false,
		"go\nif true {\n\trun()\n}\n":                      false,
		"go examples/a/README.md\nif true {\n\trun()\n}\n": false,
		"sh\nanything\n": true,
	} {
		page := parse(t, "README.md", "text\n\n```"+block+"```\n")
		if fault := docs.Shows(page.Blocks[0], source); (fault == "") != right {
			t.Errorf("%q: got %q, want it to be right %t", block, fault, right)
		}
	}
}

func TestABlockInAListIsABlock(t *testing.T) {
	page := parse(t, "README.md", "1. First.\n\n   ```go main.go\n   run()\n   ```\n")
	if len(page.Blocks) != 1 || page.Blocks[0].Language != "go" || page.Blocks[0].Rest != "main.go" {
		t.Errorf("got %+v", page.Blocks)
	}
}

func TestWhatACommandPrintsIsNoCommand(t *testing.T) {
	page := parse(t, "README.md", "```console\n$ go run \\\n  .\nhello\n```\n")
	if got := fmt.Sprint(page.Lines()); got != "[{README.md 3 go run .}]" {
		t.Errorf("got %s", got)
	}
}

func TestABlockEnds(t *testing.T) {
	if _, err := docs.Parse("README.md", "```sh\nmake\n"); err == nil || !strings.Contains(err.Error(), "README.md:2") {
		t.Errorf("got %v, want the line", err)
	}
}

func TestPage(t *testing.T) {
	page := parse(t, "docs/a.md", "See [b](b.md), [c](https://example.com/c) and `make\ntest`.\n\n```sh\n$ make it \\\n  so # now\n```\n<img src=\"d.svg\"> ``a`b``\n")
	for what, test := range map[string]struct{ got, want string }{
		"links": {fmt.Sprint(page.Links), "[{docs/a.md 1 b.md} {docs/a.md 8 d.svg}]"},
		"spans": {fmt.Sprint(page.Spans), "[{docs/a.md 1 make test} {docs/a.md 8 a`b}]"},
		"lines": {fmt.Sprint(page.Lines()[2:]), "[{docs/a.md 6 make it so # now} {docs/a.md 7 }]"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %s, want %s", what, test.got, test.want)
		}
	}
}

func TestWords(t *testing.T) {
	for line, want := range map[string]string{
		`lockstep dead drop ID --reason "a b" # for good`: `[["lockstep" "dead" "drop" "ID" "--reason" "a b"]]`,
		`lockstep status --json | jq '.a | .b'`:           `[["lockstep" "status" "--json"] ["jq" ".a | .b"]]`,
		`lockstep migrate --print > schema.sql`:           `[["lockstep" "migrate" "--print"]]`,
		`export PATH=$PATH:$(go env GOPATH | head)/bin`:   `[["export" "PATH=$PATH:$(go env GOPATH | head)/bin"]]`,
		`a#b && c`: `[["a#b"] [] ["c"]]`,
	} {
		if got := fmt.Sprintf("%q", docs.Words(line)); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

func TestPathsAndTargets(t *testing.T) {
	for line, want := range map[string]string{
		"go test -v ./internal/crashtest":    "[internal/crashtest]",
		"go test ./internal/... ./core/...":  "[]",
		"see `docs/table.md`, docs/a.md.":    "[docs/a.md]",
		"go run ./examples/quickstart":       "[examples/quickstart]",
		"dialect/* and github.com/core/core": "[]",
	} {
		if got := fmt.Sprint(docs.Paths(line)); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
	targets := docs.Targets("A = b\nall: lint test ## All of it\nlint:\n\tmake x: y\nbuild: ONLY = a\n")
	if got := slices.Sorted(maps.Keys(targets)); fmt.Sprint(got) != "[all build lint]" || targets["all"] != "All of it" || targets["lint"] != "" {
		t.Errorf("got %q", targets)
	}
	for line, want := range map[string]string{
		"make test":              "[test]",
		"make soak ONLY=engine":  "[soak]",
		"make -j2 test-unit all": "[test-unit all]",
		"cmake test":             "[]",
		"cd x && make lint":      "[lint]",
	} {
		if got := fmt.Sprint(docs.Made(line)); got != want {
			t.Errorf("%s: got %s, want %s", line, got, want)
		}
	}
}

// An example's README has one block of output, and it is not empty: what is compared with nothing is always right.
func TestOutput(t *testing.T) {
	for text, want := range map[string]string{
		"# A\n\n```sh\ngo run .\n```\n\n```\nhello\n```\n": "hello\n",
		"# A\n\n```sh\ngo run .\n```\n":                    "",
		"# A\n\n```\nhello\n```\n```\nhello\n```\n":        "",
		"# A\n\n```\n```\n":                                "",
		"# A\n\n```\nhello\n":                              "",
	} {
		path := filepath.Join(t.TempDir(), "README.md")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := docs.Output(path); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q and %v, want %q", text, got, err, want)
		}
	}
}
