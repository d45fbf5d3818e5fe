package conformance

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox"
)

// TestInbox runs every check for dialects that keep an inbox ([core.InboxStore]), on the fixtures of [TestDialect]. The
// inbox is created by the checks. The report is complete when t's subtests have ended.
func TestInbox(t *testing.T, open func(t *testing.T) DialectFixture) *Report {
	t.Helper()
	return inboxSuite.test(t, open)
}

// VerifyInbox is [TestInbox] without a test. The error has every failure; the report has them, too.
func VerifyInbox(ctx context.Context, open func(ctx context.Context) (DialectFixture, error)) (Report, error) {
	return inboxSuite.verify(ctx, open)
}

var inboxSuite = suite[DialectFixture]{subject: "inbox", groups: inboxGroups, close: closeDialect, lacks: DialectFixture.lacks}

var inboxGroups = []group[DialectFixture]{
	{
		ofFixture: true,
		checks:    []check[DialectFixture]{{"inbox-fixture", "the fixture has a Dialect with an empty outbox, and a Begin", checkDialectFixture}},
	},
	{
		needs:  "an InboxStore",
		has:    keepsInbox,
		checks: slices.Concat(inboxChecks, inboxForgetChecks),
	},
	{
		needs:  "an InboxStore and ConcurrentWriters",
		has:    func(f DialectFixture) bool { return keepsInbox(f) && f.ConcurrentWriters },
		checks: inboxWritersChecks,
	},
	{
		needs:  "an InboxStore and SQL",
		has:    func(f DialectFixture) bool { return keepsInbox(f) && f.DB != nil },
		checks: inboxSQLChecks,
	},
	{
		needs:  "an InboxStore and LoseAnswers",
		has:    func(f DialectFixture) bool { return keepsInbox(f) && f.LoseAnswers != nil },
		checks: inboxLossChecks,
	},
}

func keepsInbox(f DialectFixture) bool {
	_, ok := core.Ability[core.InboxStore](f.Dialect)
	return ok
}

// consumer is one of the application's: an inbox, and the transactions that use it.
type consumer struct {
	DialectFixture
	box   *inbox.Inbox
	store core.InboxStore
}

// consumer creates the inbox.
func (f DialectFixture) consumer(ctx context.Context) (consumer, error) {
	store, _ := core.Ability[core.InboxStore](f.Dialect)
	if err := store.MigrateInbox(ctx); err != nil {
		return consumer{}, fmt.Errorf("migrate the inbox: %w", err)
	}
	box, err := inbox.New(f.Dialect, inbox.Config{})
	return consumer{f, box, store}, err
}

// billing is the consumer's billing, where the check is about one.
const billing = "billing"

// once runs one transaction that receives, and ends it by end.
func (c consumer) once(ctx context.Context, consumer, id string, end func(Tx) error) (first bool, err error) {
	tx, rollback, err := c.begin(ctx)
	if err != nil {
		return false, err
	}
	defer rollback()
	if first, err = c.box.Once(ctx, tx, consumer, id); err != nil {
		return false, err
	}
	return first, end(tx)
}

// expectOnce is once with what it must say, and COMMIT.
func (c consumer) expectOnce(ctx context.Context, consumer, id string, want bool) error {
	got, err := c.once(ctx, consumer, id, Tx.Commit)
	if err == nil && got != want {
		err = fmt.Errorf("consumer %q receives %q: first = %t, want %t", consumer, id, got, want)
	}
	return err
}

// deliver is a delivery of the message: its effect, in the transaction that receives it, is an event of the same id.
func (c consumer) deliver(ctx context.Context, id string, end func(Tx) error) error {
	tx, rollback, err := c.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	first, err := c.box.Once(ctx, tx, billing, id)
	if err == nil && first {
		err = core.NewOutbox(c.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, event(id))
	}
	if err != nil {
		return err
	}
	return end(tx)
}
