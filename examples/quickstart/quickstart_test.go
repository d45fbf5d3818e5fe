package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

func TestItRuns(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go run .: %v\n%s", err, out)
	}
	if got, want := string(out), "received {\"item\":\"a book\"} from the topic orders\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The README's quick start is a part of this program, line for line.
func TestTheREADMEShowsThisProgram(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```go\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) != 1 {
		t.Fatalf("the README has %d Go blocks, want one: the quick start", len(blocks))
	}
	block := string(blocks[0][1])
	if !strings.Contains(unindent(string(program)), unindent(block)) {
		t.Errorf("the README's quick start is not a part of main.go:\n%s", block)
	}
	if n := strings.Count(block, "\n"); n > 25 {
		t.Errorf("the quick start has %d lines, want at most 25", n)
	}
}

func unindent(s string) string {
	return regexp.MustCompile(`(?m)^\t+`).ReplaceAllString(s, "")
}
