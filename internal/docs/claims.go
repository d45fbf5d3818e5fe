package docs

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Leads returns what is wrong with a relative link. exists looks for a path from the root.
func Leads(link Span, pages []*Page, exists func(path string) bool) []string {
	to, name, named := strings.Cut(link.Text, "#")
	target := link.Page
	if to != "" {
		target = path.Join(path.Dir(link.Page), to)
	}
	if strings.HasPrefix(target, "../") || strings.HasPrefix(to, "/") {
		return []string{fmt.Sprintf("%s: %s leads out of the tree", link.At(), link.Text)}
	}
	if !exists(target) {
		return []string{fmt.Sprintf("%s: there is no %s", link.At(), target)}
	}
	if !named {
		return nil
	}
	at := slices.IndexFunc(pages, func(p *Page) bool { return p.Path == target })
	if at < 0 || !slices.Contains(pages[at].Anchors, name) {
		return []string{fmt.Sprintf("%s: %s has no heading #%s", link.At(), target, name)}
	}
	return nil
}

// Shows returns what is wrong with a block of Go: it names no file that is compiled, or is no part of it. Blocks of
// other languages are right. source returns the text of a file from the root.
func Shows(block Block, source func(path string) (string, error)) string {
	if block.Language != "go" {
		return ""
	}
	if !strings.HasSuffix(block.Rest, ".go") {
		return fmt.Sprintf("%s: name the file that the block is a part of, as in ```go examples/quickstart/main.go", block.At())
	}
	text, err := source(block.Rest)
	if err != nil {
		return fmt.Sprintf("%s: %v", block.At(), err)
	}
	if strings.TrimSpace(block.Text) == "" || !strings.Contains("\n"+unindented(text), "\n"+unindented(block.Text)) {
		return fmt.Sprintf("%s: the block is no part of %s", block.At(), block.Rest)
	}
	return ""
}

var indent = regexp.MustCompile(`(?m)^[\t ]+`)

func unindented(text string) string { return indent.ReplaceAllString(text, "") }

var ours = regexp.MustCompile(`^(?:\./)?((?:\.ci|\.github|broker|cmd|config|conformance|core|deploy|dialect|docs|examples|inbox|internal|scripts)/[\w./-]+)$`)

// Paths returns the files and folders of this tree that are words of a line. One with a * in it is none.
func Paths(line string) []string {
	var paths []string
	for word := range strings.FieldsSeq(line) {
		word = strings.TrimRight(word, ".,:;)")
		if m := ours.FindStringSubmatch(strings.TrimSuffix(word, "/...")); m != nil {
			paths = append(paths, strings.TrimSuffix(m[1], "/"))
		}
	}
	return paths
}

// Targets returns the targets of a Makefile, with what `make help` says of each.
func Targets(makefile string) map[string]string {
	targets := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):(?:[^=\n]*?## *(.*))?`).FindAllStringSubmatch(makefile, -1) {
		targets[m[1]] = m[2]
	}
	return targets
}

// Made returns the targets that a line makes.
func Made(line string) []string {
	var targets []string
	for _, words := range Words(line) {
		if len(words) == 0 || words[0] != "make" {
			continue
		}
		for _, word := range words[1:] {
			if !strings.HasPrefix(word, "-") && !strings.Contains(word, "=") {
				targets = append(targets, word)
			}
		}
	}
	return targets
}
