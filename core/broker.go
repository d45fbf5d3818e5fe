package core

import (
	"context"
	"fmt"
)

// Broker teaches the engine one message system. Its methods are safe for concurrent use.
type Broker interface {
	// Publish sends msgs and returns when the fate of each is known, or ctx is done. A nil error is a promise: the
	// broker has stored every message, as durably as it was configured to. A *[BatchError] gives one result for each
	// message. Any other error means that the fate of all is unknown.
	//
	// The engine passes at least one message, at most one of each (topic, key), and never two of one key at the same
	// time. Publish must not keep or change msgs, or what they refer to, after it returned nil or every result is
	// known; when it returns because ctx ended it may go on reading them, and the engine does not reuse the memory.
	Publish(ctx context.Context, msgs []Message) error
}

// BatchError says what became of each message of a Publish call.
type BatchError struct {
	// Results has one entry for each message of the call, in order: nil where the message is stored.
	Results []error
}

func (e *BatchError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Results {
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("publish: %d of %d messages failed, the first with: %v", failed, len(e.Results), first)
}

// Unwrap returns the results that are errors.
func (e *BatchError) Unwrap() []error {
	var errs []error
	for _, err := range e.Results {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}
