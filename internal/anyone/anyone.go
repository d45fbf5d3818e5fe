// Package anyone asks several at the same time.
package anyone

import (
	"context"
	"errors"
)

// Answers calls ask for each of n, at the same time, and returns nil where one of them did; the others' contexts end then. It
// returns when all have returned: with all errors where none returned nil, or n is 0.
func Answers(ctx context.Context, n int, ask func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan error, n)
	for i := range n {
		go func() { answers <- ask(ctx, i) }()
	}
	failures := []error{errors.New("nobody answered")}
	answered := false
	for range n {
		if err := <-answers; err != nil {
			failures = append(failures, err)
		} else {
			answered = true
			cancel()
		}
	}
	if answered {
		return nil
	}
	return errors.Join(failures...)
}
