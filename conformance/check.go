package conformance

import (
	"context"
	"testing"
	"time"
)

// checkTimeout ends a check that hangs. It is far more than any of them takes.
const checkTimeout = 30 * time.Second

// check is one sentence of the contract, and how to find out whether an adapter keeps it.
type check[F any] struct {
	id   string // stable; what a report or a skip names
	rule string // the sentence, as it stands in core's documentation
	run  func(ctx context.Context, f F) error
}

// group is checks for adapters with an ability. Claiming it adds them; nothing that is claimed takes a check away.
type group[F any] struct {
	needs  string // the ability's name, for the skip; empty where every adapter has it
	has    func(F) bool
	checks []check[F]
}

// runChecks runs each check of g on a fixture of its own.
func runChecks[F any](t *testing.T, g group[F], open func(t *testing.T) F) {
	t.Helper()
	for _, c := range g.checks {
		t.Run(c.id, func(t *testing.T) {
			fixture := open(t)
			if g.needs != "" && !g.has(fixture) {
				t.Skipf("not exercised: needs %s", g.needs)
			}
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.run(ctx, fixture); err != nil {
				t.Errorf("the rule: %s\nis broken: %v", c.rule, err)
			}
		})
	}
}
