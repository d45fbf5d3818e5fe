package conformance

import (
	"context"
	"errors"
	"slices"

	"github.com/lockstep-go/lockstep/core"
)

// verdictMutants are brokers that do what they can, and then say of it what they cannot know.
var verdictMutants = map[string]brokerMutant{
	"takes the end of its time for a refusal": {[]string{"ended-context", "batch-results", "keys-with-a-hole"}, "its context ended, and message \"0/0\" is said to be refused, which counts as an attempt",
		answeringWhenEnded(func(n int, _ error) error { return all(n, errors.New("took too long")) })},
	"buries what it had no time for": {[]string{"ended-context", "batch-results", "keys-with-a-hole"}, "its context ended, and message \"0/0\" is said to be refused for good",
		answeringWhenEnded(func(n int, _ error) error { return all(n, core.ErrPermanent) })},
	"takes the end of its time for a successor": {[]string{"ended-context"}, "its context ended, and message \"0/0\" is said to be a later owner's",
		answeringWhenEnded(func(n int, _ error) error { return all(n, core.ErrFenced) })},
	"says that nothing is stored when its time is over, and has stored it": {[]string{"ended-context"}, "message \"0/0\" is stored, and was said not to be: unavailable",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(context.WithoutCancel(ctx), msgs)
			if ctx.Err() != nil {
				return all(len(msgs), core.ErrUnavailable)
			}
			return err
		}},
	"stores all of a call, and says that it attempted the first": {[]string{"keys-with-a-hole"}, "is stored, and was said not to be: not attempted",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(context.WithoutCancel(ctx), msgs)
			if ctx.Err() != nil {
				results := slices.Repeat([]error{core.ErrNotAttempted}, len(msgs))
				results[0] = core.ErrUncertain
				return &core.BatchError{Results: results}
			}
			return err
		}},
	"does not attempt a key's first message, and finds the next one's broker away": {[]string{"keys-with-a-hole"}, "(unavailable), and that of 0/0 before it of the same key is not attempted",
		saysOfAKey(core.ErrNotAttempted, core.ErrUnavailable)},
	"may have stored what stands behind a message that it has not": {[]string{"keys-with-a-hole"}, "(uncertain), and that of 0/0 before it of the same key is unavailable",
		saysOfAKey(core.ErrUnavailable, core.ErrUncertain)},
	"takes silence for a refusal": {[]string{"silent-broker"}, "the broker took in nothing, and message \"0/0\" is said to be refused, which counts",
		saysInstead(context.DeadlineExceeded, errors.New("no answer"))},
	"buries what nobody answered": {[]string{"silent-broker"}, "the broker took in nothing, and message \"0/0\" is said to be refused for good",
		saysInstead(context.DeadlineExceeded, core.ErrPermanent)},
	"says that what nobody answered is not stored, and sends it all the same": {[]string{"silent-broker"}, "message \"0/0\" is stored, and was said not to be",
		sendsLater(context.DeadlineExceeded)},
	"buries what an outage kept": {[]string{"broker-outage"}, "the message system is away, and message \"0/0\" is said to be refused for good",
		saysInstead(core.ErrUnavailable, core.ErrPermanent)},
	"says that it is away, and sends all the same": {[]string{"broker-outage"}, "message \"0/0\" is stored, and was said not to be",
		sendsLater(core.ErrUnavailable)},
	"refuses until it is back": {[]string{"broker-outage"}, "it was sent after the outage, and message \"last of 0\" is said to be refused",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); err != nil || b.calls.Load() != 4 {
				return err
			}
			return all(len(msgs), errors.New("starting"))
		}},
	"takes a broken connection for a refusal": {[]string{"broker-cut"}, "its connection broke, and message \"0/0\" is said to be refused, which counts",
		saysInstead(core.ErrUncertain, errors.New("broken pipe"))},
	"takes a broken connection for an outage": {[]string{"broker-cut"}, "message \"0/0\" is stored, and was said not to be: unavailable",
		saysInstead(core.ErrUncertain, core.ErrUnavailable)},
	"takes a server that starts for a refusal": {[]string{"broker-restart"}, "it was sent after the restart, and message \"after\" is said to be refused, which counts",
		saysInstead(core.ErrUncertain, errors.New("connection reset"))},
}

// all says the same of n messages.
func all(n int, result error) error {
	return &core.BatchError{Results: slices.Repeat([]error{result}, n)}
}

// saysInstead is right, but for what it says where it should say class.
func saysInstead(class, result error) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		if err := b.Broker.Publish(ctx, msgs); !errors.Is(err, class) {
			return err
		}
		return all(len(msgs), result)
	}
}

// sendsLater says that a call of class is not stored, and sends it with the next one.
func sendsLater(class error) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		err := b.Broker.Publish(ctx, append(b.kept, msgs...))
		if errors.Is(err, class) {
			b.kept = append(b.kept, copyMessages(msgs)...)
			return all(len(msgs), core.ErrUnavailable)
		}
		b.kept = nil
		return err
	}
}

// saysOfAKey says first of each key's first message of a call whose context has ended, and then of the others.
func saysOfAKey(first, then error) func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		if ctx.Err() == nil || len(msgs) < 2 {
			return b.Broker.Publish(ctx, msgs)
		}
		results, seen := make([]error, len(msgs)), map[string]bool{}
		for i, m := range msgs {
			results[i] = then
			if !seen[m.Key] {
				seen[m.Key], results[i] = true, first
			}
		}
		return &core.BatchError{Results: results}
	}
}
