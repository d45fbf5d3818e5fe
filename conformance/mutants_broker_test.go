package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// brokenBroker is a key-ordered client of a recorder that does its work in another way.
type brokenBroker struct {
	core.Broker
	publish func(ctx context.Context, b *brokenBroker, msgs []core.Message) error
	calls   atomic.Int64
	mu      sync.Mutex
	kept    []core.Message
	moved   uint32 // what was added to the keys' hashes
	// ping is how it pings; nil is by a message to a topic that nobody reads.
	ping func(ctx context.Context, b *brokenBroker) error
}

func (b *brokenBroker) Unwrap() core.Broker { return b.Broker }

func (b *brokenBroker) HashKey(_, key string) uint32 { return uint32(len(key)) + b.moved }

func (b *brokenBroker) Ping(ctx context.Context) error {
	if b.ping != nil {
		return b.ping(ctx, b)
	}
	return b.ask(ctx)
}

// ask sends a message to a topic that nobody reads.
func (b *brokenBroker) ask(ctx context.Context) error {
	return b.Broker.Publish(ctx, []core.Message{{ID: core.NewID(), Topic: "ping"}})
}

func (b *brokenBroker) Publish(ctx context.Context, msgs []core.Message) error {
	b.calls.Add(1)
	return b.publish(ctx, b, msgs)
}

// brokerMutant is how a broker with a fault publishes, the checks that must find it, and what these say then.
type brokerMutant struct {
	caught  []string
	says    string
	publish func(ctx context.Context, b *brokenBroker, msgs []core.Message) error
}

var brokerMutants = map[string]brokerMutant{
	"moves keys to other lanes while it publishes": {[]string{"key-hash"}, "another lane",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			b.moved++
			return b.Broker.Publish(ctx, msgs)
		}},
	"says that all is stored and loses the last": {[]string{"nil-is-stored", "large-batch"}, "said to be stored, and are not among",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			return b.Broker.Publish(ctx, msgs[:max(1, len(msgs)-1)])
		}},
	"loses headers": {[]string{"nil-is-stored"}, "message \"plain\" is stored as",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			msgs = copyMessages(msgs)
			for i := range msgs {
				msgs[i].Headers = nil
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"takes payloads for text": {[]string{"nil-is-stored"}, "is stored as",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			msgs = copyMessages(msgs)
			for i := range msgs {
				msgs[i].Payload = []byte(strings.ToValidUTF8(string(msgs[i].Payload), "?"))
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"sends a key's message behind the next one": {[]string{"key-order"}, "stands where message 0 belongs",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if b.calls.Load()%2 == 1 {
				b.kept = msgs[:1]
				return b.Broker.Publish(ctx, msgs[1:])
			}
			return errors.Join(b.Broker.Publish(ctx, msgs), b.Broker.Publish(ctx, b.kept))
		}},
	"takes the end of its time for success": {[]string{"ended-context"}, "were said to be stored",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); err != nil && ctx.Err() == nil {
				return err
			}
			return nil
		}},
	"leaves what it had no time for without an error": {[]string{"ended-context"}, "were said to be stored",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if ctx.Err() == nil || len(msgs) == 1 {
				return b.Broker.Publish(ctx, msgs)
			}
			results := make([]error, len(msgs))
			results[0] = ctx.Err()
			return &core.BatchError{Results: results}
		}},
	"takes its time when its time is over": {[]string{"ended-context"}, "it returned after",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if ctx.Err() != nil {
				time.Sleep(20 * time.Second) // the bubble's clock
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"does not recover from an ended context": {[]string{"ended-context"}, "another one fails",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if ctx.Err() != nil {
				b.kept = msgs
			}
			if b.kept != nil {
				return errors.New("the connection is closed")
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"has too few results": {[]string{"batch-results"}, "0 results for 1 messages", answeringWhenEnded(func(n int, err error) error {
		return &core.BatchError{Results: slices.Repeat([]error{err}, n-1)}
	})},
	"has too many results": {[]string{"batch-results"}, "2 results for 1 messages", answeringWhenEnded(func(n int, err error) error {
		return &core.BatchError{Results: slices.Repeat([]error{err}, n+1)}
	})},
	"hides its results in another error": {[]string{"batch-results"}, "inside of another error", answeringWhenEnded(func(n int, err error) error {
		return fmt.Errorf("publish: %w", &core.BatchError{Results: slices.Repeat([]error{err}, n)})
	})},
	"returns a nil pointer as an error": {[]string{"batch-results"}, "nil *BatchError", answeringWhenEnded(func(int, error) error {
		var none *core.BatchError
		return none
	})},
	"says that all is stored, in an error": {[]string{"batch-results"}, "every result", answeringWhenEnded(func(n int, _ error) error {
		return &core.BatchError{Results: make([]error, n)}
	})},
	"sorts the messages in place": {[]string{"arguments-untouched"}, "message 0 was",
		spoiling(func(msgs []core.Message) {
			slices.SortFunc(msgs, func(a, b core.Message) int { return strings.Compare(a.ID, b.ID) })
		})},
	"sets a field of a message": {[]string{"arguments-untouched"}, "message 1 was",
		spoiling(func(msgs []core.Message) { msgs[1].Key = "chosen" })},
	"adds a header": {[]string{"arguments-untouched"}, "message 0 was",
		spoiling(func(msgs []core.Message) {
			if h := msgs[0].Headers; h != nil {
				h["lockstep-id"] = msgs[0].ID
			}
		})},
	"encrypts a payload in place": {[]string{"arguments-untouched"}, "message 0 was",
		spoiling(func(msgs []core.Message) {
			for i := range msgs[0].Payload {
				msgs[0].Payload[i] ^= 0x55
			}
		})},
	"appends to a payload": {[]string{"arguments-untouched"}, "bytes behind a payload",
		spoiling(func(msgs []core.Message) { _ = append(msgs[0].Payload, '\n') })},
	"clears the messages of a failed call": {[]string{"arguments-untouched"}, "whose context had ended",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			if err != nil {
				clear(msgs)
			}
			return err
		}},
	"sends a call's messages with the next call": {[]string{"arguments-let-go"}, "read after Publish",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, b.kept)
			if b.kept = slices.Clone(msgs); b.calls.Load()%10 == 0 {
				return errors.Join(err, b.Broker.Publish(ctx, msgs))
			}
			return err
		}},
	"has a limit for the whole call": {[]string{"large-batch", "keys-in-a-call"}, "permanent failure",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			bytes := 0
			for _, m := range msgs {
				bytes += len(m.Payload)
			}
			if bytes > 1<<20 {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return b.Broker.Publish(ctx, msgs)
		}},
	"waits for an answer however long it takes": {[]string{"silent-broker"}, "it had not returned",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			if ctx.Err() != nil {
				time.Sleep(10 * time.Second) // the bubble's clock
			}
			return err
		}},
	"takes silence for consent": {[]string{"silent-broker"}, "took in nothing",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); !errors.Is(err, context.DeadlineExceeded) {
				return err
			}
			return nil
		}},
	"does not come back after a silence": {[]string{"silent-broker"}, "after the silence",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if b.kept != nil {
				return errors.New("the connection is closed")
			}
			err := b.Broker.Publish(ctx, msgs)
			if ctx.Err() != nil {
				b.kept = msgs
			}
			return err
		}},
	"takes an outage for a refusal": {[]string{"broker-outage"}, "counts as an attempt",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			err := b.Broker.Publish(ctx, msgs)
			if errors.Is(err, core.ErrUnavailable) {
				return &core.BatchError{Results: slices.Repeat([]error{errors.New("connection refused")}, len(msgs))}
			}
			return err
		}},
	"sends into the void": {[]string{"broker-outage"}, "said to be stored",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); !errors.Is(err, core.ErrUnavailable) {
				return err
			}
			return nil
		}},
	"does not come back after an outage": {[]string{"broker-outage"}, "after the outage",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if b.kept != nil {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrUnavailable}, len(msgs))}
			}
			err := b.Broker.Publish(ctx, msgs)
			if err != nil {
				b.kept = msgs
			}
			return err
		}},
	"takes a broken connection for an answer": {[]string{"broker-cut"}, "were said to be stored",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); !errors.Is(err, core.ErrUncertain) {
				return err
			}
			return nil
		}},
	"tries what can never be delivered for ever": {[]string{"poison-permanent"}, "want ErrPermanent",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); errors.Is(err, core.ErrPermanent) {
				return errors.New("refused")
			}
			return nil
		}},
	"condemns the whole call": {[]string{"poison-permanent"}, "the message beside",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if err := b.Broker.Publish(ctx, msgs); errors.Is(err, core.ErrPermanent) {
				return &core.BatchError{Results: slices.Repeat([]error{core.ErrPermanent}, len(msgs))}
			}
			return nil
		}},
	"sends a call's messages in parallel": {[]string{"keys-in-a-call"}, "stands where message 0 belongs",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			msgs = slices.Clone(msgs)
			slices.Reverse(msgs)
			return b.Broker.Publish(ctx, msgs)
		}},
	"goes on behind a message that failed": {[]string{"keys-with-a-hole"}, "before it of the same key was not",
		func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
			if ctx.Err() == nil || len(msgs) < 2 {
				return b.Broker.Publish(ctx, msgs)
			}
			results := make([]error, len(msgs))
			results[0] = core.ErrUnavailable
			if err := b.Broker.Publish(context.WithoutCancel(ctx), msgs[1:]); err != nil {
				return err
			}
			return &core.BatchError{Results: results}
		}},
}

// answeringWhenEnded is right until its context has ended; then it answers in its own way.
func answeringWhenEnded(answer func(n int, err error) error) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		if err := ctx.Err(); err != nil {
			return answer(len(msgs), err)
		}
		return b.Broker.Publish(ctx, msgs)
	}
}

// spoiling is right, but for what it does to its arguments.
func spoiling(spoil func(msgs []core.Message)) func(context.Context, *brokenBroker, []core.Message) error {
	return func(ctx context.Context, b *brokenBroker, msgs []core.Message) error {
		err := b.Broker.Publish(ctx, copyMessages(msgs))
		spoil(msgs)
		return err
	}
}

// Each check finds a fault, each of these faults is found by the check that is there for it, and a broker without one
// passes.
func TestBrokerMutantsAreCaught(t *testing.T) {
	byID := map[string]check[BrokerFixture]{}
	for _, g := range brokerGroups {
		if g.needs == termGroup.needs || g.needs == pingGroup.needs || g.needs == silentPingGroup.needs || g.ofFixture {
			continue // TestTermMutantsAreCaught, TestPingMutantsAreCaught, TestFixtureMistakesAreTold
		}
		for _, c := range g.checks {
			byID[c.id] = c
		}
	}
	finds := map[string]bool{}
	all := maps.Clone(brokerMutants)
	maps.Copy(all, callMutants)
	maps.Copy(all, verdictMutants)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		mutant := all[name]
		for _, id := range mutant.caught {
			c, ok := byID[id]
			if !ok {
				t.Fatalf("there is no check %s", id)
			}
			finds[id] = true
			t.Run(strings.ReplaceAll(name, " ", "-")+"/"+id, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := &Recorder{}
					broken := &brokenBroker{Broker: r.Client(ClientConfig{KeyOrdered: true}), publish: mutant.publish}
					got := c.verdict(t.Context(), RecorderFixture(r, broken), checkTimeout)
					if got.Status != Failed || !strings.Contains(got.Error, mutant.says) {
						t.Errorf("of a broker that %s, the check %s says %q; want %q", name, id, got.Error, mutant.says)
					}
					if got.TimedOut {
						t.Errorf("a broker that %s is caught by a time-out and nothing better: %s", name, got.Error)
					}
				})
			})
		}
	}
	for id := range byID {
		if !finds[id] {
			t.Errorf("no mutant shows that the check %s finds anything", id)
		}
	}
}
