package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestConfirm(t *testing.T) {
	t.Parallel()
	const question = "This will drop 3 dead letters. Go on? [y/N] "
	for _, tc := range []struct {
		answer, asked, err string
		yes                bool
	}{
		{answer: "y\n", asked: question},
		{answer: " YES \n", asked: question},
		{answer: "y", asked: question}, // the terminal was closed behind it
		{answer: "n\n", asked: question, err: "nothing was done"},
		{answer: "\n", asked: question, err: "nothing was done"},
		{answer: "", asked: question, err: "nothing was done"},
		{answer: "yesterday\n", asked: question, err: "nothing was done"},
		{yes: true},
	} {
		cmd, stdout, stderr := &cobra.Command{}, &bytes.Buffer{}, &bytes.Buffer{}
		cmd.SetIn(strings.NewReader(tc.answer))
		cmd.SetOut(stdout)
		cmd.SetErr(stderr)
		err := confirm(cmd, tc.yes, "drop %d dead letters", 3)
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.err || stderr.String() != tc.asked || stdout.Len() > 0 {
			t.Errorf("answer %q, yes %v: got %q, asked %q, and %q on standard output; want %q and %q", tc.answer, tc.yes, got, stderr, stdout, tc.err, tc.asked)
		}
	}
}

func TestConfirmWithoutATerminal(t *testing.T) {
	t.Parallel()
	nobody, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close()
	cmd := &cobra.Command{}
	cmd.SetIn(nobody)
	if err := confirm(cmd, false, "drop it"); err == nil || !strings.Contains(err.Error(), "this would drop it: nobody is there to be asked, so say --yes") {
		t.Errorf("got %v, want it to refuse", err)
	}
}
