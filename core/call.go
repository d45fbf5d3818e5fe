package core

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// abandonAfter is how long a publish call may go on after its context ended before it is given up. Its goroutine stays
// until the broker's client returns.
const abandonAfter = time.Second

// call is one publish call in flight.
type call struct {
	items     []*item
	msgs      []Message
	lane      *lane
	lonely    bool // one message, beside the lane's batches
	cancel    context.CancelFunc
	since     time.Time
	abandonAt time.Time
	fate      atomic.Int32
	err       error // what Publish returned, once fate is returned
	cut       bool  // the engine ended it before its time: it says nothing about its messages
	lost      bool  // it was cut because the broker is back that was away when it began
	number    int64 // of the engine's calls, in the order in which they began
	alive     int64 // the engine's evidence of life for the first message's topic, when the call began
}

// What a call's fate is. It is settled once, by the call when it returns or by who gives it up, whichever comes first.
const (
	underWay int32 = iota
	returned
	abandoned
)

// publish runs the call. It contains the adapter's panics: what a panicking call stored is unknown.
func publish(ctx context.Context, broker Broker, msgs []Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: the broker's adapter panicked: %v", ErrUncertain, p)
		}
	}()
	return broker.Publish(ctx, msgs)
}

// beginTerm calls ForTerm, and contains its panics too.
func beginTerm(ctx context.Context, fencer TermBroker, term Term) (broker Broker, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the broker's adapter panicked: %v", p)
		}
	}()
	return fencer.ForTerm(ctx, term)
}

// Results gives each of n messages its result of a [Broker.Publish] call that returned err, as a relay reads it: for brokers
// that wrap others.
func Results(err error, n int) []error {
	if err == nil {
		return make([]error, n)
	}
	//nolint:errorlint // not errors.As: results inside of another error are not what it says about all
	if batch, ok := err.(*BatchError); ok && batch != nil && len(batch.Results) == n {
		return batch.Results
	}
	unknown := err
	if !errors.Is(err, ErrFenced) && !errors.Is(err, ErrUnavailable) {
		unknown = fmt.Errorf("%w: %w", ErrUncertain, err)
	}
	all := make([]error, n)
	for i := range all {
		all[i] = unknown
	}
	return all
}

// verdict is what a result means for the engine.
type verdict int

const (
	stored verdict = iota
	refused
	permanent
	unavailable
	uncertain
	notAttempted
	fenced
)

// ClassOf names what a result of [Broker.Publish] means for the relay: "stored", "refused", "permanent", "unavailable",
// "uncertain", "not attempted" or "fenced".
func ClassOf(result error) string {
	return [...]string{"stored", "refused", "permanent", "unavailable", "uncertain", "not attempted", "fenced"}[verdictOf(result)]
}

func verdictOf(result error) verdict {
	switch {
	case result == nil:
		return stored
	case errors.Is(result, ErrFenced):
		return fenced
	case errors.Is(result, ErrNotAttempted):
		return notAttempted
	case errors.Is(result, ErrUncertain), errors.Is(result, context.DeadlineExceeded), errors.Is(result, context.Canceled):
		return uncertain
	case errors.Is(result, ErrUnavailable):
		return unavailable
	case errors.Is(result, ErrPermanent):
		return permanent
	}
	return refused
}

// hiddenTerm returns a wrapped broker that can shut out an earlier owner while its wrapper can't pass that on.
func hiddenTerm(broker Broker) TermBroker {
	if _, ok := broker.(TermBroker); ok {
		return nil
	}
	hidden, _ := Ability[TermBroker](broker)
	return hidden
}
