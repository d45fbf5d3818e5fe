package main

import (
	"os/exec"
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
