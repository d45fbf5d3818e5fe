package matrix

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/internal/leaks"
)

func TestMain(m *testing.M) {
	if os.Getenv(appVariable) != "" {
		beApp()
		return
	}
	goleak.VerifyTestMain(m, leaks.OfSarama()...)
}

// filtered says that -run may have left checks out. A combination of which nothing passed has no server, and says so.
func filtered() bool {
	run := flag.Lookup("test.run").Value.String()
	return strings.Contains(run, "/") || flag.Lookup("test.skip").Value.String() != ""
}

// whole is an error where a promise is not proven, or a check was not exercised.
func whole(r conformance.Report) error {
	var errs []error
	for _, p := range r.Promises {
		if p.Status != conformance.Proven {
			errs = append(errs, fmt.Errorf("a promise is not proven: %s", p))
		}
	}
	var missing []string
	for _, c := range r.Checks {
		if c.Status == conformance.NotExercised {
			missing = append(missing, c.ID)
		}
	}
	if len(missing) > 0 {
		errs = append(errs, fmt.Errorf("%q were not exercised", missing))
	}
	return errors.Join(errs...)
}

func TestWholeMissesWhatIsNotProven(t *testing.T) {
	report := func(status conformance.Status, missing ...string) (r conformance.Report) {
		r.Promises = []conformance.PromiseResult{{Status: conformance.Proven}, {Status: status}}
		r.Checks = []conformance.CheckResult{{ID: "run", Status: conformance.Passed}}
		for _, id := range missing {
			r.Checks = append(r.Checks, conformance.CheckResult{ID: id, Status: conformance.NotExercised})
		}
		return r
	}
	for name, c := range map[string]struct {
		report conformance.Report
		want   bool
	}{
		"all proven":                 {report(conformance.Proven), true},
		"a promise is not exercised": {report(conformance.NotExercised), false},
		"a promise is broken":        {report(conformance.Failed), false},
		"a check is missing":         {report(conformance.Proven, "b"), false},
	} {
		if err := whole(c.report); (err == nil) != c.want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestMatrix runs every combination, one after another: their checks restart the servers.
func TestMatrix(t *testing.T) {
	t.Cleanup(endIdle)
	var rows, columns []string
	for _, b := range brokers {
		columns = append(columns, b.name)
	}
	results := map[cell]conformance.Report{}
	for _, d := range databases {
		rows = append(rows, d.name)
		for _, b := range brokers {
			var report *conformance.Report
			t.Run(d.name+" to "+b.name, func(t *testing.T) { report = conformance.TestPair(t, d.open, b.open) })
			if report == nil { // -run left it out
				continue
			}
			results[cell{d.name, b.name}] = *report
			if err := whole(*report); err != nil && !filtered() && report.Count(conformance.Passed) > 0 {
				t.Errorf("%s to %s: %v", d.name, b.name, err)
			}
		}
	}
	if path := os.Getenv(readmeVariable); path != "" {
		writeTable(t, path, table(rows, columns, results))
	}
}
