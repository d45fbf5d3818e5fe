// Package docs reads the Markdown of this tree, for tests that hold it against what it describes. Its own tests look at
// links, Go, YAML, paths and make targets; cmd/lockstep's look at the command lines.
package docs

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Page is a file in Markdown.
type Page struct {
	// Path is the file's, from the root of the tree, with slashes.
	Path string
	// Blocks are the fenced blocks.
	Blocks []Block
	// Spans are the pieces of `code` in the text.
	Spans []Span
	// Links are where the page's relative links and images lead; those with a scheme are left out.
	Links []Span
	// Anchors are the names of the headings, as links have them.
	Anchors []string
}

// Block is a fenced block.
type Block struct {
	// Page and Line say where its text begins.
	Page string
	Line int
	// Language is the first word behind the fence, and Rest what follows it.
	Language, Rest string
	Text           string
}

// Span is a piece of a line.
type Span struct {
	Page string
	Line int
	Text string
}

// At says where the block is.
func (b Block) At() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// At says where the span is.
func (s Span) At() string { return fmt.Sprintf("%s:%d", s.Page, s.Line) }

// Historic reports whether the page tells what was, and may name what is no more.
func (p *Page) Historic() bool {
	return p.Path == "CHANGELOG.md" || strings.HasPrefix(p.Path, "docs/decisions/")
}

// Read returns every page below root. Folders whose names begin with a dot are left out, but for .github.
func Read(root string) ([]*Page, error) {
	var pages []*Page
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if path != root && (name == "testdata" || name == "bin" || strings.HasPrefix(name, ".") && name != ".github") {
				return fs.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		from, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		page, err := Parse(filepath.ToSlash(from), string(text))
		pages = append(pages, page)
		return err
	})
	return pages, err
}

var (
	fence   = regexp.MustCompile("^```+ *([^ `]*) *([^`]*)$")
	span    = regexp.MustCompile("``(.+?)``|`([^`]+)`")
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	image   = regexp.MustCompile(`(?:src|srcset|href)="([^"]+)"`)
	heading = regexp.MustCompile(`^#{1,6} +(.*?) *#*$`)
	scheme  = regexp.MustCompile(`^[a-z][a-z0-9+.-]*:`)
)

// Parse reads a page. It knows as much of Markdown as this tree uses. Its error is a block that does not end.
func Parse(path, text string) (*Page, error) {
	page := &Page{Path: path}
	var block *Block
	var paragraph paragraph
	for number, line := range strings.Split(text, "\n") {
		at := number + 1
		fenced := fence.FindStringSubmatch(strings.TrimSpace(line)) // indented in a list
		switch {
		case block != nil && fenced != nil && fenced[1] == "":
			page.Blocks = append(page.Blocks, *block)
			block = nil
		case block != nil:
			block.Text += line + "\n"
		case fenced != nil:
			page.add(&paragraph)
			block = &Block{Page: path, Line: at + 1, Language: fenced[1], Rest: fenced[2]}
		case strings.TrimSpace(line) == "":
			page.add(&paragraph)
		default:
			if m := heading.FindStringSubmatch(line); m != nil {
				page.Anchors = append(page.Anchors, page.unused(anchor(m[1])))
			}
			paragraph.add(at, line)
		}
	}
	page.add(&paragraph)
	if block != nil {
		return page, fmt.Errorf("%s: the block does not end", block.At())
	}
	return page, nil
}

// paragraph is lines up to an empty one: code may begin in one line and end in the next.
type paragraph struct {
	line int
	text string
}

func (p *paragraph) add(line int, text string) {
	if p.text == "" {
		p.line = line
	}
	p.text += text + "\n"
}

// add takes what p holds, and empties it.
func (p *Page) add(text *paragraph) {
	at := func(offset int) int { return text.line + strings.Count(text.text[:offset], "\n") }
	for _, m := range span.FindAllStringSubmatchIndex(text.text, -1) {
		code := strings.Trim(text.text[m[0]:m[1]], "`")
		p.Spans = append(p.Spans, Span{p.Path, at(m[0]), strings.ReplaceAll(code, "\n", " ")})
	}
	for _, m := range slices.Concat(link.FindAllStringSubmatchIndex(text.text, -1), image.FindAllStringSubmatchIndex(text.text, -1)) {
		if to := text.text[m[2]:m[3]]; !scheme.MatchString(to) {
			p.Links = append(p.Links, Span{p.Path, at(m[0]), to})
		}
	}
	*text = paragraph{}
}

// anchor is a heading's name as GitHub makes it: lower case, hyphens for spaces, and nothing but letters and digits beside.
func anchor(heading string) string {
	heading = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")
	heading = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(heading, " ", "-")
}

// unused numbers a name that was given before.
func (p *Page) unused(name string) string {
	free := name
	for n := 1; slices.Contains(p.Anchors, free); n++ {
		free = fmt.Sprintf("%s-%d", name, n)
	}
	return free
}

// Lines are the command lines of the page: those of its sh and console blocks, without prompts and comments, and the code
// in its text. A line that ends with a backslash goes on. In a console block the lines with a prompt are commands, and the others what they print.
func (p *Page) Lines() []Span {
	lines := slices.Clone(p.Spans)
	for _, b := range p.Blocks {
		if b.Language != "sh" && b.Language != "console" && b.Language != "bash" {
			continue
		}
		begun := ""
		for i, line := range strings.Split(b.Text, "\n") {
			line = strings.TrimSpace(line)
			if b.Language == "console" && begun == "" && !strings.HasPrefix(line, "$ ") {
				continue
			}
			line = begun + strings.TrimPrefix(line, "$ ")
			if before, continued := strings.CutSuffix(line, `\`); continued {
				begun = before
				continue
			}
			begun = ""
			lines = append(lines, Span{b.Page, b.Line + i, line})
		}
	}
	return lines
}

// Words splits a command line as a shell does, as far as documentation needs it: quotes, and comments. It returns a
// command for each part of a pipe or list. Redirections are left out.
func Words(line string) [][]string {
	var commands [][]string
	var words []string
	var word strings.Builder
	var quote rune
	begun, inner := false, 0 // how deep in $( )
	end := func() {
		if begun {
			words = append(words, word.String())
		}
		word.Reset()
		begun = false
	}
	for _, c := range line {
		switch {
		case inner > 0, c == '(' && quote == 0 && strings.HasSuffix(word.String(), "$"):
			word.WriteRune(c)
			inner += map[rune]int{'(': 1, ')': -1}[c]
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, begun = c, true
		case c == ' ' || c == '\t':
			end()
		case c == '#' && !begun:
			return append(commands, words)
		case strings.ContainsRune("|;&()", c):
			end()
			commands = append(commands, words)
			words = nil
		default:
			word.WriteRune(c)
			begun = true
		}
	}
	end()
	commands = append(commands, words)
	for i, words := range commands {
		if at := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, ">") || strings.HasPrefix(w, "<") }); at >= 0 {
			commands[i] = words[:at]
		}
	}
	return commands
}
