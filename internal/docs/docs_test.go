package docs_test

import (
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/internal/docs"
)

const root = "../.."

func read(t *testing.T) []*docs.Page {
	t.Helper()
	pages, err := docs.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 5 {
		t.Fatalf("found %d pages, want those of the whole tree", len(pages))
	}
	return pages
}

func exists(name string) bool {
	_, err := os.Stat(filepath.Join(root, filepath.FromSlash(name)))
	return err == nil
}

// A link inside the tree leads to a file that is there, and to a heading that is in it.
func TestLinks(t *testing.T) {
	pages := read(t)
	for _, page := range pages {
		for _, link := range page.Links {
			for _, fault := range docs.Leads(link, pages, exists) {
				t.Error(fault)
			}
		}
	}
}

// Go that a page shows is a part of a file that the tests compile and run. The fence names the file:
//
//	```go examples/quickstart/main.go
func TestGo(t *testing.T) {
	source := func(name string) (string, error) {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		return string(text), err
	}
	for _, page := range read(t) {
		for _, block := range page.Blocks {
			if fault := docs.Shows(block, source); fault != "" {
				t.Error(fault)
			}
			if lines := strings.Count(block.Text, "\n"); page.Path == "README.md" && block.Language == "go" && lines > 25 {
				t.Errorf("%s: the block has %d lines, want at most 25 in the README", block.At(), lines)
			}
		}
	}
}

// YAML that a page shows is a configuration that the program takes. Files that it names are not read.
func TestYAML(t *testing.T) {
	for _, page := range read(t) {
		for _, block := range page.Blocks {
			if block.Language == "yaml" && block.Rest != "other" {
				t.Run(block.At(), func(t *testing.T) { load(t, block.Text) })
			}
		}
	}
}

func load(t *testing.T, text string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	text = regexp.MustCompile(`\$\{(file|urlfile):[^}]*\}`).ReplaceAllString(text, "secret")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Source{File: file, Lookup: func(name string) (string, bool) {
		return "secret", !strings.HasPrefix(name, "LOCKSTEP_")
	}})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := all.Registry().Open(c, slog.New(slog.DiscardHandler)) // connects to nothing
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Close(); err != nil {
		t.Error(err)
	}
}

// Blocks are in languages that some test knows, so that none goes unlooked at.
func TestLanguages(t *testing.T) {
	known := []string{"", "go", "sh", "console", "yaml", "sql", "properties", "markdown"}
	for _, page := range read(t) {
		for _, block := range page.Blocks {
			if !slices.Contains(known, block.Language) {
				t.Errorf("%s: a block of %q, which no test looks at", block.At(), block.Language)
			}
			if block.Language == "sql" && block.Page != "docs/table.md" {
				t.Errorf("%s: SQL stands in docs/table.md, which the dialects' tests run", block.At())
			}
		}
	}
}

// A file or folder of ours that a page names in code is there.
func TestPaths(t *testing.T) {
	for _, page := range read(t) {
		if page.Historic() {
			continue
		}
		for _, line := range page.Lines() {
			for _, name := range docs.Paths(line.Text) {
				if !exists(name) && !exists(path.Join(path.Dir(page.Path), name)) {
					t.Errorf("%s: there is no %s", line.At(), name)
				}
			}
		}
	}
}

func TestMake(t *testing.T) {
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	targets := docs.Targets(string(makefile))
	if len(targets) < 5 {
		t.Fatalf("found the targets %q, want those of the Makefile", targets)
	}
	for name, help := range targets {
		if help == "" {
			t.Errorf("make help does not show %s: write what it does behind ##", name)
		}
		if !regexp.MustCompile(`(?m)^\.PHONY:.* ` + name + `\b`).Match(makefile) {
			t.Errorf("%s is not among .PHONY", name)
		}
	}
	for _, page := range read(t) {
		for _, line := range page.Lines() {
			for _, name := range docs.Made(line.Text) {
				if _, there := targets[name]; !there && !page.Historic() {
					t.Errorf("%s: make has no target %s", line.At(), name)
				}
			}
		}
	}
}
