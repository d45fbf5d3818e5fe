package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/internal/demo"
	"github.com/lockstep-go/lockstep/internal/leaks"
)

func TestMain(m *testing.M) {
	if demo.IsChild() {
		os.Exit(demo.RunChild())
	}
	// A script runs this binary as the program.
	testscript.Main(leakless{m}, map[string]func(){"lockstep": main})
}

// leakless fails where tests passed and left goroutines behind.
type leakless struct{ m *testing.M }

func (l leakless) Run() int {
	code := l.m.Run()
	if err := goleak.Find(leaks.OfSarama()...); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func TestExitCodesAndWhereThingsGo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args           string
		code           int
		stdout, stderr string // what they must contain; "" is nothing at all
	}{
		{"", exitOK, "demo", ""},
		{"version", exitOK, "lockstep ", ""},
		{"demo --help", exitOK, "SIGKILL", ""},
		{"demo --orders 0", exitUsage, "", "--orders is 0: give a number from 1 to 1000000"},
		{"demo --orders 1000001", exitUsage, "", "--orders is 1000001: give a number from 1 to 1000000"},
		{"demo --orders many", exitUsage, "", "--orders"},
		{"demo --speed 3", exitUsage, "", "see lockstep demo --help"},
		{"demo now", exitUsage, "", `lockstep demo takes no arguments, but was given "now"`},
		{"dmo", exitUsage, "", `there is no command "dmo"`},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(tc.args), &stdout, &stderr)
		if code != tc.code {
			t.Errorf("lockstep %s: exit code %d, want %d", tc.args, code, tc.code)
		}
		for _, stream := range []struct{ name, got, want string }{
			{"stdout", stdout.String(), tc.stdout}, {"stderr", stderr.String(), tc.stderr},
		} {
			if !strings.Contains(stream.got, stream.want) || stream.want == "" && stream.got != "" {
				t.Errorf("lockstep %s: %s is %q, want %q in it", tc.args, stream.name, stream.got, stream.want)
			}
		}
		if n := strings.Count(stderr.String(), "\n"); n > 1 {
			t.Errorf("lockstep %s: %d lines on stderr, want one: %s", tc.args, n, &stderr)
		}
	}
}

func TestDemoJSON(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), strings.Fields("demo --json --seed 18446744073709551615 --orders 5"), &stdout, &stderr); code != exitOK {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	var report map[string]any
	if err := json.Unmarshal(stdout.Bytes(), &report); err != nil { // fails on anything beside the object
		t.Fatalf("%v in %s", err, &stdout)
	}
	wantKeys(t, "report", report, "seed", "orders", "faults", "services")
	wantKeys(t, "faults", report["faults"], "crash", "broker_away", "answer_lost", "statement_fails", "commit_fails", "relay_crash")
	services := report["services"].([]any)
	if len(services) != 4 {
		t.Fatalf("got %d services, want 4", len(services))
	}
	for _, s := range services {
		wantKeys(t, "service", s, "name", "title", "kills", "orders", "events", "counts")
		wantKeys(t, "kills", s.(map[string]any)["kills"], "service", "relay")
		wantKeys(t, "counts", s.(map[string]any)["counts"],
			"orders_without_event", "events_without_order", "events_delivered_twice", "effects_applied_twice")
	}
	if !strings.Contains(stdout.String(), `"seed": 18446744073709551615`) {
		t.Errorf("the seed is not the one that was given: %s", &stdout)
	}
}

func wantKeys(t *testing.T, what string, object any, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(object.(map[string]any)))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s has the keys %v, want %v", what, got, want)
	}
}

func TestOutputThatCannotBeWrittenIsAFailure(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"demo --orders 5", "demo --orders 5 --json"} {
		var stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(args), fullWriter{}, &stderr)
		if want := "lockstep: print the counts: the disk is full\n"; code != exitFailure || stderr.String() != want {
			t.Errorf("lockstep %s: got exit code %d and %q, want %d and %q", args, code, &stderr, exitFailure, want)
		}
	}
}

type fullWriter struct{}

func (fullWriter) Write([]byte) (int, error) { return 0, errors.New("the disk is full") }

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	var stdout, stderr bytes.Buffer
	if code := run(ctx, []string{"demo"}, &stdout, &stderr); code != exitFailure || stderr.String() != "lockstep: interrupted\n" {
		t.Errorf("got exit code %d and %q, want %d and \"lockstep: interrupted\"", code, &stderr, exitFailure)
	}
}
