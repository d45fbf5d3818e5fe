package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName   = regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z][A-Za-z0-9_]*)[^`]*`")
	testFunc   = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Za-z0-9_]+)\(`)
	suiteNames = regexp.MustCompile("the suite's ((?:`[a-z-]+`(?:, | and )?)+)")
	suiteName  = regexp.MustCompile("`([a-z-]+)`")
	suiteCheck = regexp.MustCompile(`(?m)^\t\{"([a-z-]+)", "`)
)

// sources calls visit with each Go file below a folder.
func sources(t *testing.T, folder string, visit func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		text, err := os.ReadFile(path)
		visit(path, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// A test that a page names is there, and so is a check of the suite: docs/rules.md is worth what its names are.
func TestNamedTestsAreThere(t *testing.T) {
	tests, checks := map[string]bool{}, map[string]bool{}
	sources(t, ".", func(path, text string) {
		if strings.HasSuffix(path, "_test.go") || strings.Contains(path, "conformance") { // whose suites are exported
			for _, m := range testFunc.FindAllStringSubmatch(text, -1) {
				tests[m[1]] = true
			}
		}
	})
	sources(t, "conformance", func(_, text string) {
		for _, m := range suiteCheck.FindAllStringSubmatch(text, -1) {
			checks[m[1]] = true
		}
	})
	named := 0
	for _, page := range read(t) {
		if page.Historic() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page.Path)))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, m := range testName.FindAllStringSubmatch(line, -1) {
				if named++; !tests[m[1]] {
					t.Errorf("%s:%d: there is no %s", page.Path, i+1, m[1])
				}
			}
			for _, list := range suiteNames.FindAllStringSubmatch(line, -1) {
				for _, m := range suiteName.FindAllStringSubmatch(list[1], -1) {
					if named++; !checks[m[1]] {
						t.Errorf("%s:%d: the suite has no check %s", page.Path, i+1, m[1])
					}
				}
			}
		}
	}
	if named < 100 {
		t.Errorf("the pages name %d tests and checks, which is too few to be all", named)
	}
	t.Logf("%d names", named)
}
