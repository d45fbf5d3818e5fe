// Package dose sizes a test. The same test runs in a small dose on every change and in the full dose that the
// issues name when it is soaked, so a dose is a number inside a test and never another test.
package dose

import "os"

// Variable names the environment variable that chooses the dose: "small" (also when it is unset or empty) or "full".
const Variable = "LOCKSTEP_TEST_DOSE"

// TB is the part of testing.TB that this package uses.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Of returns small or full, whichever dose is asked for. Numbers and durations are the usual doses. An unknown value
// in the environment fails the test: a soak that ran the small dose because of a typing error would be believed.
func Of[T any](t TB, small, full T) T {
	t.Helper()
	switch dose := os.Getenv(Variable); dose {
	case "", "small":
		return small
	case "full":
		return full
	default:
		t.Fatalf("%s=%q: want small or full", Variable, dose)
		return small
	}
}
