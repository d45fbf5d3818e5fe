package conformance

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lockstep-go/lockstep/core"
)

// dressed is a dialect that adds nothing to the one inside of it, and hides what that can do but for Unwrap.
type dressed struct{ core.Dialect }

func (d dressed) Unwrap() core.Dialect { return d.Dialect }

func (d dressed) Open(ctx context.Context) (core.Session, error) {
	s, err := d.Dialect.Open(ctx)
	if err != nil {
		return nil, err
	}
	return dressedSession{s}, nil
}

type dressedSession struct{ core.Session }

func (s dressedSession) Unwrap() core.Session { return s.Session }

// The engine finds abilities behind Unwrap; so must the suites, or an adapter in a wrapper is tested for less.
func TestAWrappedDialectIsTestedForAllThatItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := func(wrap func(core.Dialect) core.Dialect) func(context.Context) (DialectFixture, error) {
			return func(context.Context) (DialectFixture, error) {
				f := MemoryFixture(NewMemory(MemoryConfig{Archive: true}))
				f.Dialect, f.Archiving = wrap(f.Dialect), wrap(f.Archiving)
				return f, nil
			}
		}
		bare := open(func(d core.Dialect) core.Dialect { return d })
		wrapped := open(func(d core.Dialect) core.Dialect { return dressed{d} })
		for name, verify := range map[string]func(context.Context, func(context.Context) (DialectFixture, error)) (Report, error){
			"dialect": VerifyDialect, "inbox": VerifyInbox,
		} {
			want, err := verify(t.Context(), bare)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := verify(t.Context(), wrapped)
			if err != nil {
				t.Errorf("%s, wrapped: %v", name, err)
			}
			for i, c := range got.Checks {
				if c.Status != want.Checks[i].Status {
					t.Errorf("%s: of a dialect in a wrapper %s says %s (needs %s), and %s without it", name, c.ID, c.Status, c.Needs, want.Checks[i].Status)
				}
			}
		}
	})
}

// dressedBroker hides what the broker inside can do but for Unwrap.
type dressedBroker struct{ inner core.Broker }

func (b dressedBroker) Unwrap() core.Broker { return b.inner }

func (b dressedBroker) Publish(ctx context.Context, msgs []core.Message) error {
	return b.inner.Publish(ctx, msgs)
}

// A relay refuses a wrapper that hides ForTerm, so the suite must not pass it by asking what is inside.
func TestAWrappedBrokerIsTestedForAllThatItCan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		report, _ := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
			r := &Recorder{}
			return RecorderFixture(r, dressedBroker{r.Client(ClientConfig{KeyOrdered: true, Terms: true})}), nil
		})
		for _, c := range report.Checks {
			terms := c.ID == "later-term" || c.ID == "other-outbox"
			switch {
			case terms && (c.Status != Failed || !strings.Contains(c.Error, "let it implement ForTerm too")):
				t.Errorf("%s says %s %q, want that the wrapper has to implement ForTerm", c.ID, c.Status, c.Error)
			case !terms && c.Status != Passed && c.ID != "key-hash" && !strings.HasPrefix(c.ID, "ping"): // a recorder has no partitions, and no connections
				t.Errorf("%s says %s %s %q", c.ID, c.Status, c.Needs, c.Error)
			}
		}
	})
}
