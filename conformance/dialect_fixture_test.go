package conformance

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
)

// pairMistakes are fixtures that are wrong in one way, what is said of them, and whether that is said of the dialect's alone, too.
var pairMistakes = map[string]struct {
	says      string
	ofDialect bool
	spoil     func(p *pair)
}{
	"no Dialect":                 {"it lacks DialectFixture.Dialect", true, func(p *pair) { p.Dialect = nil }},
	"no Begin":                   {"it lacks DialectFixture.Begin", true, func(p *pair) { p.Begin = nil }},
	"no Broker":                  {"it lacks BrokerFixture.Broker", false, func(p *pair) { p.broker.Broker = nil }},
	"no Topic":                   {"it lacks BrokerFixture.Topic", false, func(p *pair) { p.broker.Topic = "" }},
	"neither Read nor Stored":    {"it lacks BrokerFixture.Read (or Stored)", false, func(p *pair) { p.broker.Read, p.broker.Stored = nil, nil }},
	"nothing":                    {"DialectFixture.Dialect, DialectFixture.Begin, BrokerFixture.Broker, BrokerFixture.Topic, ", false, func(p *pair) { *p = pair{} }},
	"a Begin that fails":         {"DialectFixture.Begin: no database", true, func(p *pair) { p.Begin = func(context.Context) (Tx, error) { return nil, errors.New("no database") } }},
	"a Begin without a result":   {"neither a transaction nor an error", true, func(p *pair) { p.Begin = func(context.Context) (Tx, error) { return nil, nil } }},
	"a Begin that has ended":     {"roll back a transaction", true, func(p *pair) { p.Begin = endedAlready }},
	"an outbox in use":           {`the outbox holds "1" before`, true, func(p *pair) { _ = p.commit(context.Background(), event("1")) }},
	"a topic in use":             {`the topic holds "1" before`, false, func(p *pair) { _ = p.broker.publish(context.Background(), event("1")) }},
	"a topic in use, for Stored": {`the topic holds "1" before`, false, func(p *pair) { p.broker.Read = nil; _ = p.broker.publish(context.Background(), event("1")) }},
}

func endedAlready(context.Context) (Tx, error) { return endedTx{}, nil }

type endedTx struct{ Tx }

func (endedTx) Rollback() error { return sql.ErrTxDone }

// pairOf is a pair that is right, but for spoil.
func pairOf(spoil func(p *pair)) pair {
	r := &Recorder{}
	p := pair{MemoryFixture(NewMemory(MemoryConfig{})), RecorderFixture(r, r)}
	spoil(&p)
	return p
}

func TestMistakesInTheFixturesOfAPairAreTold(t *testing.T) {
	for name, mistake := range pairMistakes {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := func(g CheckResult) {
					if g.Status != Failed || !strings.Contains(g.Error, mistake.says) || g.TimedOut {
						t.Errorf("of a fixture with %s %s says %q (timed out: %v); want %q", name, g.ID, g.Error, g.TimedOut, mistake.says)
					}
				}
				told(pairGroups[0].checks[0].verdict(t.Context(), pairOf(mistake.spoil), checkTimeout))
				if mistake.ofDialect {
					told(dialectGroups[0].checks[0].verdict(t.Context(), pairOf(mistake.spoil).DialectFixture, checkTimeout))
					told(inboxGroups[0].checks[0].verdict(t.Context(), pairOf(mistake.spoil).DialectFixture, checkTimeout))
				}
			})
		})
	}
}

// A field is missing: one check says so, and no other is run.
func TestAFixtureThatLacksAFieldFailsOnce(t *testing.T) {
	for name, mistake := range pairMistakes {
		if !strings.Contains(mistake.says, "Fixture.") || strings.Contains(mistake.says, ":") {
			continue
		}
		dialect := func(context.Context) (DialectFixture, error) { return pairOf(mistake.spoil).DialectFixture, nil }
		broker := func(context.Context) (BrokerFixture, error) { return pairOf(mistake.spoil).broker, nil }
		reports := map[string]Report{}
		reports["pair"], _ = VerifyPair(t.Context(), dialect, broker)
		if mistake.ofDialect {
			reports["dialect"], _ = VerifyDialect(t.Context(), dialect)
			reports["inbox"], _ = VerifyInbox(t.Context(), dialect)
		}
		for suite, report := range reports {
			if report.Count(Failed) != 1 || report.Count(Passed) != 0 || !strings.Contains(report.Checks[0].Error, mistake.says) {
				t.Errorf("%s, %s: got\n%s\nwant one failure, which says %q", suite, name, report, mistake.says)
			}
		}
	}
}
