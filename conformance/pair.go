package conformance

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// pair is the fixtures for one check of a dialect and a broker together.
type pair struct {
	DialectFixture
	broker BrokerFixture
}

// TestPair runs a real relay from the dialect's outbox to the broker, while an application writes, and things go wrong;
// then it compares what a consumer finds in the topic with what was committed. Both open functions are called once for
// each check, and several checks run at the same time. The harm that a fixture can do adds checks.
func TestPair(t *testing.T, openDialect func(t *testing.T) DialectFixture, openBroker func(t *testing.T) BrokerFixture) *Report {
	t.Helper()
	return pairSuite.test(t, func(t *testing.T) pair {
		t.Helper()
		return pair{openDialect(t), openBroker(t)}
	})
}

// VerifyPair is [TestPair] without a test. Each fixture is closed after its check. The error has every failure; the report
// has them, too.
func VerifyPair(
	ctx context.Context, openDialect func(ctx context.Context) (DialectFixture, error), openBroker func(ctx context.Context) (BrokerFixture, error),
) (Report, error) {
	return pairSuite.verify(ctx, func(ctx context.Context) (pair, error) {
		dialect, err := openDialect(ctx)
		if err != nil {
			return pair{}, err
		}
		broker, err := openBroker(ctx)
		if err != nil {
			return pair{}, errors.Join(err, closeDialect(dialect))
		}
		return pair{dialect, broker}, nil
	})
}

// pairPatience is how long a check of a pair waits for what must happen within seconds: a slow machine is no broken promise.
const pairPatience = 2 * inTheEnd

// pairWorkers is how many checks of a pair run at the same time: most of them wait most of the time.
const pairWorkers = 6

var pairSuite = suite[pair]{
	subject: "pair",
	groups:  pairGroups,
	lacks:   pair.lacks,
	told:    pair.told,
	close:   func(p pair) error { return errors.Join(closeBroker(p.broker), closeDialect(p.DialectFixture)) },
	limit:   func(p pair) time.Duration { return 4 * checkTimeout * time.Duration(p.scale()) },
	share: func(p pair, restart func(own func() error) error) pair {
		own := p.broker.Restart
		p.broker.Restart = func() error { return restart(own) }
		return p
	},
	workers: pairWorkers,
}

func (p pair) told(l *losses) pair {
	p.broker = p.broker.told(l)
	return p
}

func (p pair) scale() int { return max(1, p.Scale) }

var pairGroups = []group[pair]{
	{
		ofFixture: true,
		checks:    []check[pair]{{"pair-fixture", "the fixtures have a Dialect with an empty outbox, and a Begin; a Broker, an empty Topic, and a Read or Stored", checkPairFixture}},
	},
	{checks: slices.Concat(pairAtomicChecks, pairDeliveryChecks, pairOrderChecks, pairDeadChecks, pairLateChecks)},
	{
		needs:  "an InboxStore",
		has:    func(p pair) bool { return keepsInbox(p.DialectFixture) },
		checks: pairInboxChecks,
	},
	{
		needs:  "the dialect's Cut",
		has:    func(p pair) bool { return p.Cut != nil },
		checks: pairCrashChecks,
	},
	{
		needs:  "the dialect's LoseAnswers",
		has:    func(p pair) bool { return p.LoseAnswers != nil },
		checks: pairLostAnswerChecks,
	},
	{
		needs:  "the broker's Elsewhere",
		has:    func(p pair) bool { return p.broker.Elsewhere != nil },
		checks: pairElsewhereChecks,
	},
	{
		needs:  "the broker's Outage",
		has:    func(p pair) bool { return p.broker.Outage != nil },
		checks: pairBrokerOutageChecks,
	},
	{
		needs:  "the broker's Freeze",
		has:    func(p pair) bool { return p.broker.Freeze != nil },
		checks: pairFreezeChecks,
	},
	{
		needs:  "the broker's Delay",
		has:    func(p pair) bool { return p.broker.Delay != nil },
		checks: pairDelayChecks,
	},
	{
		needs:  "the broker's Poison",
		has:    func(p pair) bool { return p.broker.Poison != nil },
		checks: pairPoisonChecks,
	},
	{
		needs:  "the dialect's Outage",
		has:    func(p pair) bool { return p.Outage != nil },
		checks: pairDatabaseOutageChecks,
	},
	{
		needs:  "the dialect's or the broker's Cut",
		has:    func(p pair) bool { return p.Cut != nil || p.broker.Cut != nil },
		checks: pairCutChecks,
	},
	{
		needs:  "the dialect's Restart",
		has:    func(p pair) bool { return p.Restart != nil },
		checks: pairRestartChecks,
		alone:  true,
	},
	{
		needs:  "the broker's Restart",
		has:    func(p pair) bool { return p.broker.Restart != nil },
		checks: pairBrokerRestartChecks,
		alone:  true,
		server: func(p pair) string { return p.broker.Server },
	},
	{
		needs:  "an InboxStore and the broker's Restart",
		has:    func(p pair) bool { return p.broker.Restart != nil && keepsInbox(p.DialectFixture) },
		checks: pairInboxRestartChecks,
		alone:  true,
		server: func(p pair) string { return p.broker.Server },
	},
}

// seed is that of one check's random choices.
func (p pair) seed() uint64 {
	if p.Seed != 0 {
		return p.Seed
	}
	return rand.Uint64()
}
