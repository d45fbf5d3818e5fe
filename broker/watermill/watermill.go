package watermill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/lockstep-go/lockstep/core"
)

const (
	// inFlight bounds what one Publish has in flight. Watermill's Publish is one round trip for one message, so it is
	// what throughput comes from.
	inFlight = 32

	// maxCalls bounds all calls of the publisher that have not returned, those that were abandoned among them: each
	// holds a goroutine and its message.
	maxCalls = 512
)

var _ core.Broker = (*Broker)(nil)

// Broker is a [core.Broker] over a Watermill publisher. Safe for concurrent use, as Watermill publishers are.
type Broker struct {
	publisher message.Publisher
	closings  []<-chan struct{}
	calls     slots
}

// New returns a broker that publishes through publisher, which stays the caller's to close, after the relay ended.
//
// The error names every setting of a publisher that is known to lose messages or their order, and what to set instead;
// the package's documentation lists them. It cannot be overruled.
func New(publisher message.Publisher) (*Broker, error) {
	closings, err := inspect(publisher)
	if err != nil {
		return nil, fmt.Errorf("watermill: publisher refused: %w", err)
	}
	return &Broker{publisher: publisher, closings: closings, calls: make(slots, maxCalls)}, nil
}

// slots bounds how much goes on at the same time. It holds a token for each that does.
type slots chan struct{}

// take waits for a free slot. It returns false where ctx is done first.
func (s slots) take(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		if ctx.Err() == nil {
			return true
		}
		<-s
		return false
	case <-ctx.Done():
		return false
	}
}

// Publish implements [core.Broker]: one call of the publisher for each message, several at a time. When ctx ends first,
// the call is abandoned and its message's fate is unknown. The publisher may then still deliver it: a duplicate. No call
// is begun after ctx has ended.
func (b *Broker) Publish(ctx context.Context, msgs []core.Message) error {
	results := make([]error, len(msgs))
	slots := make(slots, inFlight)
	var calls sync.WaitGroup
	for i, m := range msgs {
		if !slots.take(ctx) {
			results[i] = notBegun(ctx)
			continue
		}
		calls.Go(func() {
			results[i] = b.publishOne(ctx, m)
			<-slots
		})
	}
	calls.Wait()
	for _, err := range results {
		if err != nil {
			return &core.BatchError{Results: results}
		}
	}
	return nil
}

func notBegun(ctx context.Context) error {
	return fmt.Errorf("%w: watermill: the call's time was over: %w", core.ErrNotAttempted, context.Cause(ctx))
}

// publishOne returns when the publisher has answered or ctx is done.
func (b *Broker) publishOne(ctx context.Context, m core.Message) error {
	if !b.calls.take(ctx) {
		return fmt.Errorf("%w: watermill: the publisher has not answered earlier calls, up to %d of them: restart the relay if it never does",
			core.ErrUnavailable, maxCalls)
	}
	out := toWatermill(m) // here: what is abandoned does not look at the caller's memory any more
	out.SetContext(ctx)
	answer := make(chan error, 1) // room for one, so that an abandoned call can end
	go func() {
		defer func() { <-b.calls }()
		err := fmt.Errorf("%w: watermill: the publisher ended its goroutine", core.ErrUncertain)
		defer func() { answer <- err }()
		if ctx.Err() != nil { // while it waited for a processor
			err = notBegun(ctx)
			return
		}
		err = b.call(m.Topic, out)
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-answer: // it came at the same time
		return err
	default:
		return fmt.Errorf("%w: watermill: no answer from the publisher: %w", core.ErrUncertain, context.Cause(ctx))
	}
}

// call calls the publisher, and returns an error instead of its panic.
func (b *Broker) call(topic string, m *message.Message) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: watermill: the publisher panicked: %v", core.ErrUncertain, p)
		}
	}()
	if err := b.publisher.Publish(topic, m); err != nil {
		return fmt.Errorf("%w: watermill: publish to %q: %w", classOf(err), topic, err)
	}
	if slices.ContainsFunc(b.closings, isClosed) {
		return fmt.Errorf("%w: watermill: the publisher was closed, and may not have waited: close it after the relay has ended", core.ErrUncertain)
	}
	return nil
}

// classOf returns the class that a publisher's error wraps. One that wraps none may mean anything.
func classOf(err error) error {
	for _, class := range []error{core.ErrPermanent, core.ErrUnavailable, core.ErrNotAttempted} {
		if errors.Is(err, class) && !errors.Is(err, core.ErrUncertain) {
			return class
		}
	}
	return core.ErrUncertain
}
