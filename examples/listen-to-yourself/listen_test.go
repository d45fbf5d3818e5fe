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
	if got, want := string(out), "3 orders, 6 deliveries, 7 books left of 10\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
