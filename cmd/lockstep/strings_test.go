package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/docs"
)

// texts calls visit with each string that the tree's programs and libraries are made with: errors, cures and help.
func texts(t *testing.T, visit func(at, text string)) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if path != root && strings.HasPrefix(entry.Name(), ".") {
				return fs.SkipDir
			}
			return err
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			expression, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, whole := joined(expression)
			if whole {
				visit(files.Position(n.Pos()).String(), text)
			}
			return !whole
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// joined returns the text of a literal, or of a sum of which one part is a literal at least; the others are an ellipsis.
func joined(e ast.Expr) (string, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.BinaryExpr:
		left, ok := joined(e.X)
		right, too := joined(e.Y)
		return left + right, e.Op == token.ADD && (ok || too)
	}
	return "…", false
}

var (
	commandIn = regexp.MustCompile("`(lockstep [^`]+)`")
	pageIn    = regexp.MustCompile(`(docs/[a-z-]+\.md)(?:, ([A-Z][^;:.,]*))?`)
)

// Every command line of this program that an error, a cure or a help text names can be carried out.
func TestTheTextsCommandLines(t *testing.T) {
	t.Parallel()
	seen := 0
	check := func(at, line string) {
		for _, words := range docs.Words(line) {
			if args, ours := argumentsOf(words); ours {
				seen++
				if err := parse(args); err != nil {
					t.Errorf("%s: %s: %v", at, strings.Join(words, " "), err)
				}
			}
		}
	}
	texts(t, func(at, text string) {
		for _, m := range commandIn.FindAllStringSubmatch(text, -1) {
			check(at, m[1])
		}
	})
	if seen < 10 {
		t.Errorf("found %d command lines, want those of the cures", seen)
	}
	seen = 0
	examples(newRoot(), check)
	if seen < 10 {
		t.Errorf("found %d examples, want those of the commands", seen)
	}
}

// A page that a text sends its reader to is there, and so is the heading.
func TestTheTextsPages(t *testing.T) {
	t.Parallel()
	pages, err := docs.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	texts(t, func(at, text string) {
		for _, m := range pageIn.FindAllStringSubmatch(text, -1) {
			seen++
			i := slices.IndexFunc(pages, func(p *docs.Page) bool { return p.Path == m[1] })
			heading := strings.ReplaceAll(strings.ToLower(m[2]), " ", "-")
			if i < 0 || heading != "" && !slices.Contains(pages[i].Anchors, heading) {
				t.Errorf("%s: there is no %s", at, m[0])
			}
		}
	})
	if seen < 3 {
		t.Errorf("found %d pages, want those of the cures", seen)
	}
}
