package core_test

import (
	"regexp"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

func TestNewIDIsAUUIDv7(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for range 10_000 {
		id := core.NewID()
		if !form.MatchString(id) {
			t.Fatalf("NewID() = %q, want a version 7 UUID", id)
		}
		if seen[id] {
			t.Fatalf("NewID() returned %q twice", id)
		}
		seen[id] = true
	}
}
