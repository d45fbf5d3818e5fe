package docs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// Prints runs the program in the current folder with args, and fails the test unless it prints what the folder's README.md
// says. Its log, on standard error, may say what it likes, and is shown when the test fails.
func Prints(t testing.TB, args ...string) {
	t.Helper()
	want, err := Output("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "go", slices.Concat([]string{"run", "."}, args)...)
	cmd.Stderr = &log
	out, err := cmd.Output()
	if err != nil || string(out) != want {
		t.Fatalf("go run . %q: got %v and\n%s\nwant\n%s\nlog:\n%s", args, err, out, want, log.String())
	}
}

// Output returns what the page at path, an example's, says that it prints: the text of its one block without a language.
func Output(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	page, err := Parse(path, string(text))
	if err != nil {
		return "", err
	}
	plain := slices.DeleteFunc(page.Blocks, func(b Block) bool { return b.Language != "" })
	if len(plain) != 1 {
		return "", fmt.Errorf("%s has %d blocks without a language, want one: what the program prints", path, len(plain))
	}
	if plain[0].Text == "" {
		return "", errors.New(path + " says that the program prints nothing")
	}
	return plain[0].Text, nil
}
