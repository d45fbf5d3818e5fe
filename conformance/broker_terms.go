package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/lockstep-go/lockstep/core"
)

// termGroup is the checks for a [core.TermBroker].
var termGroup = group[BrokerFixture]{
	needs: "a TermBroker",
	has: func(f BrokerFixture) bool {
		_, ok := core.Ability[core.TermBroker](f.Broker)
		return ok
	},
	checks: []check[BrokerFixture]{
		{"later-term", "after a later term published, an earlier one gets ErrFenced, and nothing more of it is stored", checkLaterTerm},
		{"other-outbox", "a term shuts out nobody of another outbox", checkOtherOutbox},
	},
}

// inTerm publishes m as the owner of an outbox does, and returns what becomes of it.
func (f BrokerFixture) inTerm(ctx context.Context, owner core.Broker, m core.Message) error {
	m.Topic = f.Topic
	results, err := resultsOf(owner.Publish(ctx, []core.Message{m}), 1)
	if err != nil {
		return err
	}
	return results[0]
}

func (f BrokerFixture) term(ctx context.Context, outbox string, epoch int64) (core.Broker, error) {
	terms, ok := f.Broker.(core.TermBroker)
	if !ok {
		return nil, fmt.Errorf("%T hides that the broker inside of it can shut out an earlier owner: let it implement ForTerm too", f.Broker)
	}
	owner, err := terms.ForTerm(ctx, core.Term{Outbox: outbox, Epoch: epoch})
	if err != nil {
		return nil, fmt.Errorf("begin term %d: %w", epoch, err)
	}
	return owner, nil
}

// checkLaterTerm publishes one key as two owners that follow each other, the way a relay does that was paused.
func checkLaterTerm(ctx context.Context, f BrokerFixture) error {
	outbox := core.NewID()
	older, err := f.term(ctx, outbox, 1)
	if err != nil {
		return err
	}
	if err := f.inTerm(ctx, older, numbered(0, 0, 0)); err != nil {
		return fmt.Errorf("the first owner publishes: %w", err)
	}
	newer, err := f.term(ctx, outbox, 2)
	if err != nil {
		return err
	}
	for n := range 2 { // the first for a second time: its answer may have been lost
		if err := f.inTerm(ctx, newer, numbered(0, n, 0)); err != nil {
			return fmt.Errorf("the second owner publishes: %w", err)
		}
	}
	late := core.Message{ID: "late", Key: numbered(0, 0, 0).Key}
	if err := f.inTerm(ctx, older, late); !errors.Is(err, core.ErrFenced) {
		return fmt.Errorf("the first owner publishes behind the second, and gets %w, want ErrFenced", orNil(err))
	}
	last := numbered(0, 2, 0)
	if err := f.inTerm(ctx, newer, last); err != nil {
		return fmt.Errorf("the second owner goes on: %w", err)
	}
	stored, err := f.await(ctx, 4)
	if err != nil {
		return err
	}
	for _, m := range stored {
		if m.ID == late.ID {
			return errors.New("what the first owner sent behind the second is stored")
		}
	}
	return nil
}

// checkOtherOutbox lets two outboxes take turns at one topic.
func checkOtherOutbox(ctx context.Context, f BrokerFixture) error {
	one, err := f.term(ctx, core.NewID(), 1)
	if err != nil {
		return err
	}
	other, err := f.term(ctx, core.NewID(), 2)
	if err != nil {
		return err
	}
	for n := range 3 {
		if err := errors.Join(f.inTerm(ctx, one, numbered(0, n, 0)), f.inTerm(ctx, other, numbered(1, n, 0))); err != nil {
			return fmt.Errorf("round %d: %w", n, err)
		}
	}
	return f.expectOrder(ctx, 2, 3)
}

// orNil makes an error of none, to be told.
func orNil(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return err
}
