package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// BrokerFixture is an empty topic for one check.
type BrokerFixture struct {
	// Broker is what is tested.
	Broker core.Broker
	// Elsewhere is a broker on the same message system as another process has it, with the same abilities. Relays that are
	// at work at the same time, as while an outbox changes hands, publish through one each. Defaults to none: [TestPair]
	// then lets their calls take turns, and its check of calls that overlap is not exercised.
	Elsewhere core.Broker
	// Topic is empty, and the check's own.
	Topic string
	// Read returns the first n messages that the topic holds, waiting until it holds so many; those of one key in the
	// order in which they were stored. It may be called again.
	Read func(ctx context.Context, n int) ([]core.Message, error)
	// OtherTopic is another empty topic of the same Broker, and ReadOther its Read. It adds the check for calls with messages
	// of several topics.
	OtherTopic string
	ReadOther  func(ctx context.Context, n int) ([]core.Message, error)
	// Freeze makes the message system fall silent, as a machine does that stands still: connections stay, nothing is
	// taken in or answered, until thaw is called. It adds the checks for that.
	Freeze func() (thaw func(), err error)

	// What follows adds checks as well. The harm must concern this fixture's Broker, and no other's nor Read, as the harm
	// does that a [Proxy] before the message system does ([BrokerFixture.Through] sets the first three).

	// Outage makes the message system unreachable, until heal is called: what is under way breaks, what is begun fails.
	Outage func() (heal func(), err error)
	// Cut breaks every connection at once. New ones work.
	Cut func()
	// Delay holds up by d whatever is sent to the message system from now on; 0 ends it.
	Delay func(d time.Duration)
	// Poison makes of m, which is for Topic, a message that the message system, or the adapter, refuses for good. Where it
	// leaves topic and key as they are, it adds checks of calls with several, with messages of two topics, and of what a
	// [core.KeyOrdered] broker stores behind one.
	Poison func(m core.Message) core.Message

	// Restart kills the message system's server, as kill -9 or a power cut does, and brings it up again: what is not synced
	// has to be lost, or the fixture proves nothing. It may concern other fixtures as well.
	Restart func() error
	// Server names what Restart restarts, where other fixtures are on it, too: the checks of [TestPair] that restart it then
	// run at the same time, and it is restarted once for all of them. Defaults to no name, and one check after another.
	Server string

	// Stored returns what the topic holds now, those of one key in the order in which they were stored. It saves
	// [TestPair] the time of finding that out by Read.
	Stored func(ctx context.Context) ([]core.Message, error)
	// Close ends what the fixture was made of. Defaults to nothing, where open has registered that with t.
	Close func() error

	losses *losses // of the run
}

func (f BrokerFixture) told(l *losses) BrokerFixture {
	f.losses = l
	return f
}

// TestBroker runs every check for brokers. open is called once for each, and registers its clean-up with t, or sets
// Close. The report is complete when t's subtests have ended; it is logged then.
func TestBroker(t *testing.T, open func(t *testing.T) BrokerFixture) *Report {
	t.Helper()
	return brokerSuite.test(t, open)
}

// VerifyBroker is [TestBroker] without a test. open is called once for each check, and its fixture closed. The error has
// every failure; the report has them, too.
func VerifyBroker(ctx context.Context, open func(ctx context.Context) (BrokerFixture, error)) (Report, error) {
	return brokerSuite.verify(ctx, open)
}

var brokerSuite = suite[BrokerFixture]{
	subject: "broker", groups: brokerGroups, close: closeBroker, lacks: BrokerFixture.lacks,
	begin: func(ctx context.Context, f BrokerFixture) error { return f.begin(ctx) },
	told:  BrokerFixture.told,
}

func closeBroker(f BrokerFixture) error {
	if f.Close == nil {
		return nil
	}
	return f.Close()
}

var brokerGroups = []group[BrokerFixture]{
	{
		ofFixture: true,
		checks:    []check[BrokerFixture]{{"broker-fixture", "the fixture has a Broker, an empty Topic, and a Read that waits for what it is asked for", checkFixture}},
	},
	{checks: []check[BrokerFixture]{
		{"nil-is-stored", "a nil error is a promise: the broker has stored every message, every part of it as it was given", checkStored},
		{"key-order", "messages of one key that are published one after another are stored in that order", checkKeyOrder},
		{"ended-context", "publish returns when the context is done, and claims nothing that it does not know: neither that a message is stored or not, nor that it was refused", checkEndedContext},
		{"batch-results", "a *BatchError gives one result for each message; it is what Publish returns, and not inside of another error", checkBatchResults},
		{"arguments-untouched", "publish must not change msgs or what they refer to", checkArguments},
		{"arguments-let-go", "after publish said that its messages are stored, it reads their memory no more", checkLetGo},
		{"concurrent-calls", "publish is safe for concurrent use: calls at the same time store each their own messages, once, and each key in order", checkConcurrentCalls},
		{"large-batch", "a batch of the largest messages is stored, as one of small ones is, and so is one of hundreds", checkLargeBatch},
	}},
	{
		needs:  "OtherTopic",
		has:    BrokerFixture.hasOther,
		checks: []check[BrokerFixture]{{"several-topics", "the messages of a call may be for several topics: each is stored in its own", checkSeveralTopics}},
	},
	{
		needs:  "Freeze",
		has:    func(f BrokerFixture) bool { return f.Freeze != nil },
		checks: []check[BrokerFixture]{{"silent-broker", "publish returns when the context is done, also where the message system says nothing, which refuses no message", checkSilentBroker}},
	},
	{
		needs:  "Outage",
		has:    func(f BrokerFixture) bool { return f.Outage != nil },
		checks: []check[BrokerFixture]{{"broker-outage", "while the message system is away nothing is said to be stored nor refused, and it is used again when it is back", checkBrokerOutage}},
	},
	{
		needs:  "Cut",
		has:    func(f BrokerFixture) bool { return f.Cut != nil },
		checks: []check[BrokerFixture]{{"broker-cut", "after its connections broke the broker makes new ones; what it had claimed is stored, what it had denied is not, and nothing was refused", checkBrokerCut}},
	},
	{
		needs:  "Poison",
		has:    func(f BrokerFixture) bool { return f.Poison != nil },
		checks: []check[BrokerFixture]{{"poison-permanent", "a message that can never be stored gets ErrPermanent, and no other message of the call does", checkPoison}},
	},
	{
		needs: "a KeyOrdered broker",
		has: func(f BrokerFixture) bool {
			_, ok := core.Ability[core.KeyOrdered](f.Broker)
			return ok
		},
		checks: []check[BrokerFixture]{
			{"keys-in-a-call", "several messages of one key in a call are stored in order", checkKeysInACall},
			{"keys-with-a-hole", "after a message is not stored, no later one of its key in the call may be", checkKeysWithAHole},
		},
	},
	{
		needs:  "a Poison that leaves topic and key as they are",
		has:    BrokerFixture.poisonsInPlace,
		checks: []check[BrokerFixture]{{"poisons-in-a-call", "of several messages of a call that can never be stored each gets ErrPermanent, in that call or when it is sent again, and no other one does", checkPoisonsInACall}},
	},
	{
		needs:  "OtherTopic, and a Poison that leaves topic and key as they are",
		has:    func(f BrokerFixture) bool { return f.hasOther() && f.poisonsInPlace() },
		checks: []check[BrokerFixture]{{"results-by-message", "the results of a call stand in the order of its messages, also where these are for several topics", checkResultsByMessage}},
	},
	{
		needs: "a KeyOrdered broker, and a Poison that leaves topic and key as they are",
		has: func(f BrokerFixture) bool {
			_, ok := core.Ability[core.KeyOrdered](f.Broker)
			return ok && f.poisonsInPlace()
		},
		checks: []check[BrokerFixture]{{"keys-behind-a-poison", "after a message is refused for good, no later one of its key in the call is stored: those get ErrNotAttempted", checkBehindAPoison}},
	},
	{
		needs: "a KeyHasher broker",
		has: func(f BrokerFixture) bool {
			_, ok := core.Ability[core.KeyHasher](f.Broker)
			return ok
		},
		checks: []check[BrokerFixture]{{"key-hash", "a key's hash depends on topic and key alone", checkKeyHash}},
	},
	pingGroup,
	silentPingGroup,
	termGroup,
	{
		needs:  "Restart",
		alone:  true,
		has:    func(f BrokerFixture) bool { return f.Restart != nil },
		checks: []check[BrokerFixture]{{"broker-restart", "a nil error is a promise: what was confirmed is still there when the message system was killed and is up again", checkBrokerRestart}},
	},
}

// publish sends msgs to the fixture's topic.
func (f BrokerFixture) publish(ctx context.Context, msgs ...core.Message) error {
	for i := range msgs {
		msgs[i].Topic = f.Topic
	}
	return f.Broker.Publish(ctx, msgs)
}

// publishEach publishes msgs and returns what the broker says of each.
func (f BrokerFixture) publishEach(ctx context.Context, msgs ...core.Message) ([]error, error) {
	return resultsOf(f.publish(ctx, msgs...), len(msgs))
}

// resultsOf returns what a Publish call of n messages says of each, as the engine understands it, or what is wrong with
// how it is said.
func resultsOf(err error, n int) ([]error, error) {
	if err == nil {
		return make([]error, n), nil
	}
	batch, direct := err.(*core.BatchError) //nolint:errorlint // what is wrapped is looked for below
	switch {
	case direct && batch == nil:
		return nil, errors.New("the error is a nil *BatchError, which is not a nil error")
	case direct && len(batch.Results) != n:
		return nil, fmt.Errorf("the *BatchError has %d results for %d messages", len(batch.Results), n)
	case direct && !slices.ContainsFunc(batch.Results, func(err error) bool { return err != nil }):
		return nil, errors.New("every result of the *BatchError says that the message is stored: return nil")
	case direct:
		return batch.Results, nil
	case errors.As(err, &batch):
		return nil, fmt.Errorf("a *BatchError is inside of another error, where nobody looks for it: %w", err)
	}
	results := make([]error, n)
	for i := range results {
		results[i] = fmt.Errorf("%w: %w", core.ErrUncertain, err)
	}
	return results, nil
}
