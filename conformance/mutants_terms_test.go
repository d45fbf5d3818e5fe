package conformance

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// fencing is a broker that shuts out earlier terms from its own memory, or has a fault in doing so.
type fencing struct {
	core.Broker
	fault  string
	latest map[string]int64 // epochs by outbox
}

func (b *fencing) Unwrap() core.Broker { return b.Broker }

func (b *fencing) ForTerm(_ context.Context, term core.Term) (core.Broker, error) {
	if b.fault == "takes all outboxes for one" {
		term.Outbox = ""
	}
	b.latest[term.Outbox] = term.Epoch
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
	}
	if over {
		return &core.BatchError{Results: slices.Repeat([]error{core.ErrFenced}, len(msgs))}
	}
	return b.outer.Publish(ctx, msgs)
}

func TestTermMutantsAreCaught(t *testing.T) {
	checks := map[string]func(context.Context, BrokerFixture) error{"later-term": checkLaterTerm, "other-outbox": checkOtherOutbox}
	for fault, want := range map[string]struct{ caught, says string }{
		"":                                  {},
		"lets earlier terms publish":        {"later-term", "want ErrFenced"},
		"says nothing to whom it shuts out": {"later-term", "want ErrFenced"},
		"stores what it refuses":            {"later-term", "is stored"},
		"shuts out the latest term":         {"later-term", "the second owner"},
		"takes all outboxes for one":        {"other-outbox", "round 0"},
	} {
		for id, check := range checks {
			if fault != "" && id != want.caught {
				continue
			}
			r := &Recorder{}
			broker := &fencing{Broker: r.Client(ClientConfig{KeyOrdered: true}), fault: fault, latest: map[string]int64{}}
			err := check(t.Context(), RecorderFixture(r, broker))
			switch {
			case fault == "" && err != nil:
				t.Errorf("%s finds fault with a good broker: %v", id, err)
			case fault != "" && (err == nil || !strings.Contains(err.Error(), want.says)):
				t.Errorf("of a broker that %s, the check %s says %v; want %q", fault, id, err, want.says)
			}
		}
	}
}
