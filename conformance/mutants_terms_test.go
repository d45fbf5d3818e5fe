package conformance

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/lockstep-go/lockstep/core"
)

// fencing is a broker that shuts out earlier terms from its own memory, or has a fault in doing so.
type fencing struct {
	core.Broker
	fault  string
	latest map[string]int64 // epochs by outbox

	refused bool
	first   string // the first outbox that had a term
	held    []core.Message
}

func (b *fencing) Unwrap() core.Broker { return b.Broker }

func (b *fencing) ForTerm(_ context.Context, term core.Term) (core.Broker, error) {
	if b.fault == "takes all outboxes for one" {
		term.Outbox = ""
	}
	b.latest[term.Outbox] = term.Epoch
	if b.first == "" {
		b.first = term.Outbox
	}
	return &fenced{b, term}, nil
}

type fenced struct {
	outer *fencing
	term  core.Term
}

func (b *fenced) Publish(ctx context.Context, msgs []core.Message) error {
	over := b.outer.latest[b.term.Outbox] > b.term.Epoch
	switch b.outer.fault {
	case "lets earlier terms publish":
		over = false
	case "says nothing to whom it shuts out":
		if over {
			return nil
		}
	case "stores what it refuses":
		if over {
			_ = b.outer.Publish(ctx, msgs)
		}
	case "shuts out the latest term":
		over = b.term.Epoch > 1
	case "shuts out the first term":
		over = b.term.Epoch == 1
	case "shuts out everybody for one":
		over = over || b.outer.refused
	case "turns what the other outbox sends around":
		if b.term.Epoch > 1 && b.term.Outbox != b.outer.first {
			if b.outer.held == nil {
				b.outer.held = msgs
				return nil
			}
			if held := b.outer.held; len(held) > 0 {
				b.outer.held = []core.Message{}
				return errors.Join(b.outer.Publish(ctx, msgs), b.outer.Publish(ctx, held))
			}
		}
	}
	b.outer.refused = over
	if over {
		return &core.BatchError{Results: slices.Repeat([]error{core.ErrFenced}, len(msgs))}
	}
	return b.outer.Publish(ctx, msgs)
}

// The whole suite runs on each: the check that is there for a fault finds it, and no other finds one.
func TestTermMutantsAreCaught(t *testing.T) {
	for fault, want := range map[string]struct{ caught, says string }{
		"":                                  {},
		"lets earlier terms publish":        {"later-term", "want ErrFenced"},
		"says nothing to whom it shuts out": {"later-term", "want ErrFenced"},
		"stores what it refuses":            {"later-term", "is stored"},
		"shuts out the latest term":         {"later-term", "the second owner"},
		"shuts out the first term":          {"later-term", "the first owner publishes"},
		"shuts out everybody for one":       {"later-term", "the second owner goes on"},
		"takes all outboxes for one":        {"other-outbox", "round 0"},

		"turns what the other outbox sends around": {"other-outbox", "stands where message 0 belongs"},
	} {
		synctest.Test(t, func(t *testing.T) {
			report, _ := VerifyBroker(t.Context(), func(context.Context) (BrokerFixture, error) {
				r := &Recorder{}
				broker := &fencing{Broker: r.Client(ClientConfig{KeyOrdered: true}), fault: fault, latest: map[string]int64{}}
				return RecorderFixture(r, broker), nil
			})
			seen := 0
			for _, c := range report.Checks {
				caught := c.ID == want.caught
				seen += one((c.ID == "later-term" || c.ID == "other-outbox") && c.Status != NotExercised)
				// What shuts out one epoch, of any outbox, shuts out one of two outboxes, too.
				also := strings.HasPrefix(fault, "shuts out the") && c.ID == "other-outbox"
				if (c.Status == Failed) != caught && !also || !strings.Contains(c.Error, want.says) && caught || c.TimedOut {
					t.Errorf("of a broker that %s, the check %s says %s %q; want %q of %s", fault, c.ID, c.Status, c.Error, want.says, want.caught)
				}
			}
			if seen != 2 {
				t.Errorf("the suite runs %d of the two checks of terms", seen)
			}
		})
	}
}
