package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// callMutants are brokers that go wrong in what is special about a call: its keys, its topics, its neighbours, and what
// becomes of it when the server is killed.
var callMutants = map[string]brokerMutant{
	"goes on behind a message that was refused for good": {[]string{"keys-behind-a-poison"}, `message "behind 2" is stored, and its result is no error`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return oneByOne(ctx, b, msgs, nil)
		}},
	"says that a message behind a refused one was not attempted, and stores it": {[]string{"keys-behind-a-poison"}, `message "behind 2" is stored, and its result is not attempted`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return oneByOne(ctx, b, msgs, func(results []error, i int) {
				for j := range i {
					if results[j] != nil && msgs[j].Key == msgs[i].Key {
						results[i] = core.ErrNotAttempted
					}
				}
			})
		}},
	"finds a call's broker away for one message, and goes on with its key": {[]string{"keys-behind-a-poison"}, "is stored, and beside 3 before it of the same key was not",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			away := slices.IndexFunc(msgs, func(m core.Message) bool { return m.ID == "beside 3" })
			if away < 0 {
				return b.Broker.Publish(ctx, msgs)
			}
			rest := slices.Concat(msgs[:away], msgs[away+1:])
			results, err := resultsOf(b.Broker.Publish(ctx, rest), len(rest))
			if err != nil {
				return err
			}
			return answerOf(slices.Insert(results, away, error(core.ErrUnavailable)))
		}},
	"condemns what it did not attempt": {[]string{"keys-behind-a-poison"}, "want ErrNotAttempted",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			var batch *core.BatchError
			if errors.As(err, &batch) {
				for i, result := range batch.Results {
					if errors.Is(result, core.ErrNotAttempted) {
						batch.Results[i] = core.ErrPermanent
					}
				}
			}
			return err
		}},
	"gives up all that is behind a refused message, and has stored it": {[]string{"keys-behind-a-poison"}, `message "beside 0" is stored, and its result is not attempted`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			var batch *core.BatchError
			if errors.As(err, &batch) {
				for i, result := range batch.Results {
					if result == nil {
						batch.Results[i] = core.ErrNotAttempted
					}
				}
			}
			return err
		}},
	"goes on with the next ten behind a message that was refused for good": {[]string{"keys-behind-a-poison"}, `message "behind 9" is stored, and its result is no error`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			var results []error
			for ten := range slices.Chunk(msgs, 10) {
				some, err := resultsOf(b.Broker.Publish(ctx, ten), len(ten))
				if err != nil {
					return err
				}
				results = append(results, some...)
			}
			return answerOf(results)
		}},
	"sends the other half when its time is over": {[]string{"keys-with-a-hole"}, "message 10 of key 0 is stored, and message 0 before it is not",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if ctx.Err() == nil {
				return b.Broker.Publish(ctx, msgs)
			}
			_ = b.Broker.Publish(context.WithoutCancel(ctx), msgs[len(msgs)/2:])
			return ctx.Err()
		}},
	"takes a second refusal for a repeated one": {[]string{"poisons-in-a-call"}, `"poison 3" can never be stored, and is said to be stored`,
		saying(func(_ []core.Message, results []error) {
			for i := refusedIn(results) + 1; i < len(results); i++ {
				if errors.Is(results[i], core.ErrPermanent) {
					results[i] = nil
				}
			}
		})},
	"condemns what stands between two refused messages": {[]string{"poisons-in-a-call"}, `message "good 2", in one call with others`,
		saying(func(_ []core.Message, results []error) {
			for i := refusedIn(results); i < len(results)-1; i++ {
				results[i] = core.ErrPermanent
			}
		})},
	"does not know which ones are refused, where there are several": {[]string{"poisons-in-a-call"}, "however often they are sent",
		saying(func(_ []core.Message, results []error) {
			if slices.Contains(results[refusedIn(results)+1:], core.ErrPermanent) {
				for i := range results {
					results[i] = core.ErrUncertain
				}
			}
		})},
	"stores what it refuses for good": {[]string{"poisons-in-a-call"}, "was refused for good, and is stored",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			stripped := copyMessages(msgs)
			for i := range stripped {
				stripped[i].Headers = nil
			}
			_ = b.Broker.Publish(ctx, stripped)
			return b.Broker.Publish(ctx, msgs)
		}},
	"groups its results by topic": {[]string{"results-by-message"}, `message "here 1", in one call with others`, saying(byTopic(1))},
	"groups its results by topic, the last one's first": {[]string{"results-by-message"}, `"poison" can never be stored, and is said to be stored`,
		saying(byTopic(-1))},
	"sends a call to the topic of its first message": {[]string{"several-topics"}, "which the check did not publish to it",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			msgs = slices.Clone(msgs)
			for i := range msgs {
				msgs[i].Topic = msgs[0].Topic
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"knows the messages of other topics by the key, and keeps one": {[]string{"several-topics"}, "said to be stored, and are not among",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			var some []core.Message
			for _, m := range msgs {
				if !slices.ContainsFunc(some, func(s core.Message) bool { return s.Key == m.Key }) {
					some = append(some, m)
				}
			}
			return b.Broker.Publish(ctx, some)
		}},
	"has one buffer for all calls": {[]string{"concurrent-calls"}, "stored twice",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			b.keep(msgs)
			time.Sleep(time.Millisecond) // the bubble's clock: the other calls begin
			return b.Broker.Publish(ctx, b.keep(nil))
		}},
	"refuses a call while another one runs": {[]string{"concurrent-calls"}, "while others publish",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if !b.mu.TryLock() {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("busy")}, len(msgs))}
			}
			defer b.mu.Unlock()
			time.Sleep(time.Millisecond) // the bubble's clock
			return b.Broker.Publish(ctx, msgs)
		}},
	"stores messages twice": {[]string{"nil-is-stored"}, `stored twice: "plain", "least"`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return errors.Join(b.Broker.Publish(ctx, msgs[:2]), b.Broker.Publish(ctx, msgs))
		}},
	"loses what is beyond twenty in a call":       {[]string{"large-batch"}, "said to be stored, and are not among", beyond(20)},
	"loses what is beyond two hundred in a call":  {[]string{"large-batch"}, "said to be stored, and are not among", beyond(200)},
	"loses what is beyond five hundred in a call": {[]string{"large-batch"}, "said to be stored, and are not among", beyond(500)},
	"says that all is stored and loses one in the middle": {[]string{"key-order"}, `"19/49" were said to be stored`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if msgs[len(msgs)-1].ID == "19/49" {
				msgs = msgs[:len(msgs)-1]
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"confirms what it has not written": {[]string{"broker-restart"}, `"9/4" were said to be stored`,
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if behind := b.keep(copyMessages(msgs)); len(behind) > 0 {
				_ = b.Broker.Publish(ctx, behind) // what is not written when the server is killed is gone
			}
			if msgs[0].ID == "after" {
				return b.Broker.Publish(ctx, msgs)
			}
			return nil
		}},
	"does not come back after a restart": {[]string{"broker-restart"}, "after the restart",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if msgs[0].ID == "after" {
				return errors.New("the connection is closed")
			}
			return b.Broker.Publish(ctx, msgs)
		}},
}

// beyond stores the first most messages of a call, and says that all are stored.
func beyond(most int) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		return b.Broker.Publish(ctx, msgs[:min(most, len(msgs))])
	}
}

// keep swaps what the broker remembers.
func (b *brokenBroker) keep(msgs []core.Message) (before []core.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before = b.kept
	if msgs != nil {
		b.kept = msgs
	}
	return before
}

// oneByOne publishes each message in a call of its own, whatever came of those before it. tell changes what is said.
func oneByOne(ctx context.Context, b *brokenBroker, msgs []core.Message, tell func(results []error, i int)) error {
	results := make([]error, len(msgs))
	for i := range msgs {
		var batch *core.BatchError
		if err := b.Broker.Publish(ctx, msgs[i:i+1]); errors.As(err, &batch) {
			results[i] = batch.Results[0]
		}
		if tell != nil {
			tell(results, i)
		}
	}
	return answerOf(results)
}

// answerOf makes Publish's error of its results.
func answerOf(results []error) error {
	if !slices.ContainsFunc(results, func(err error) bool { return err != nil }) {
		return nil
	}
	return &core.BatchError{Results: results}
}

// saying stores what it is given, and changes what it says where a message was refused.
func saying(change func(msgs []core.Message, results []error)) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		results, err := resultsOf(b.Broker.Publish(ctx, msgs), len(msgs))
		if err != nil {
			return err
		}
		if refusedIn(results) >= 0 {
			change(msgs, results)
		}
		return answerOf(results)
	}
}

// refusedIn is the place of the first message that was refused for good; -1 where none was.
func refusedIn(results []error) int {
	return slices.IndexFunc(results, func(err error) bool { return errors.Is(err, core.ErrPermanent) })
}

// byTopic puts the results of one topic before those of the other.
func byTopic(sign int) func(msgs []core.Message, results []error) {
	return func(msgs []core.Message, results []error) {
		order := make([]int, len(msgs))
		for i := range order {
			order[i] = i
		}
		slices.SortStableFunc(order, func(a, b int) int { return sign * strings.Compare(msgs[a].Topic, msgs[b].Topic) })
		kept := slices.Clone(results)
		for place, i := range order {
			results[place] = kept[i]
		}
	}
}

// A broker that stops at the first message that is not stored, and sends one by one, is slow and right.
func TestALazyBrokerPasses(t *testing.T) {
	lazy := func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		results := slices.Repeat([]error{core.ErrNotAttempted}, len(msgs))
		for i := range msgs {
			var batch *core.BatchError
			results[i] = b.Broker.Publish(ctx, msgs[i:i+1])
			if errors.As(results[i], &batch) {
				results[i] = batch.Results[0]
			}
			if results[i] != nil {
				break
			}
		}
		return answerOf(results)
	}
	synctest.Test(t, func(t *testing.T) {
		report, err := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
			r := &Recorder{}
			return RecorderFixture(r, &brokenBroker{Broker: r.Client(ClientConfig{KeyOrdered: true}), publish: lazy}), nil
		})
		if ran := report.Count(Passed); err != nil || ran < 20 {
			t.Errorf("%d checks passed: %v", ran, err)
		}
	})
}
