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

// runChecks runs each check on a fixture of its own.
func runChecks[F any](t *testing.T, checks []check[F], open func(t *testing.T) F) {
	t.Helper()
	for _, c := range checks {
		t.Run(c.id, func(t *testing.T) {
			fixture := open(t)
			ctx, cancel := context.WithTimeout(t.Context(), checkTimeout)
			defer cancel()
			if err := c.run(ctx, fixture); err != nil {
				t.Errorf("the rule: %s\nis broken: %v", c.rule, err)
			}
		})
	}
}
