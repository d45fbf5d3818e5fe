package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

const (
	// checkTimeout ends a check that waits in vain. It is far more than any of them takes.
	checkTimeout = 30 * time.Second
	// watchdogGrace is how long a check may take to return after that, before it is left behind.
	watchdogGrace = 10 * time.Second
)

// errSkipped is the result of a check whose fixture skipped the test.
var errSkipped = errors.New("the fixture skipped the test")

// check is one sentence of the contract, and how to find out whether an adapter keeps it. promisesOf says which
// promises it is a part of.
type check[F any] struct {
	id   string // stable; what a report or a skip names
	rule string // the sentence, as it stands in core's documentation
	run  func(ctx context.Context, f F) error
}

// group is checks for fixtures with an ability. Having it adds them; nothing that a fixture has takes a check away.
type group[F any] struct {
	needs  string // the ability's name, for the report; empty where every fixture has it
	has    func(F) bool
	checks []check[F]
	// pointless, where has is false, says that nothing of the fixture's kind could have the ability, as a file has no connection
	// that could break. It may be nil: there is nobody of whom that is known.
	pointless func(F) bool
	// alone says that the checks harm what other fixtures use, and run while nothing else does.
	alone bool
	// server names what the checks of an alone group restart, as fixtures do that share it; empty where this one does not.
	// One server at most is named by the groups of a suite. It may be nil: nobody shares it.
	server func(F) string
	// ofFixture says that the checks are of the fixture itself, on which the others rely.
	ofFixture bool
}

// verdict runs c within limit and says what came of it. It comes back also where c does not.
func (c check[F]) verdict(ctx context.Context, f F, limit time.Duration) CheckResult {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	began := time.Now()
	answer := guarded(func() error { return c.run(ctx, f) })
	watchdog := time.NewTimer(limit + watchdogGrace)
	defer watchdog.Stop()
	var err error
	hung := false
	select {
	case err = <-answer:
	case <-watchdog.C:
		hung, err = true, fmt.Errorf("it has not returned %v after its %v were over: it hangs", watchdogGrace, limit)
	}
	result := c.result(err)
	result.Took = time.Since(began)
	result.TimedOut = err != nil && (hung || ctx.Err() != nil)
	return result
}

// result is c's with err as what was found.
func (c check[F]) result(err error) CheckResult {
	result := CheckResult{ID: c.id, Rule: c.rule, Promises: promisesOf[c.id], Status: Passed}
	if err != nil {
		result.Status, result.Error = Failed, err.Error()
	}
	return result
}

// missing is c's result where the fixture lacks what it needs.
func (c check[F]) missing(needs string) CheckResult {
	result := c.result(nil)
	result.Status, result.Needs = NotExercised, needs
	return result
}

// guarded runs do in a goroutine of its own, and tells its error, or how it ended instead of returning.
func guarded(do func() error) <-chan error {
	answer := make(chan error, 1)
	go func() {
		err := errors.New("it ended its goroutine, as t.Fatal and t.Skip do")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("it panicked: %v\n%s", p, debug.Stack())
			}
			answer <- err
		}()
		err = do()
	}()
	return answer
}
