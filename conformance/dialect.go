package conformance

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// DialectFixture is an empty outbox for one check.
type DialectFixture struct {
	// Dialect is what is tested, migrated.
	Dialect core.Dialect
	// DB is the application's way to the same database: the checks begin their transactions on it.
	DB *sql.DB
}

// TestDialect runs every check for dialects. open is called once for each, and registers its clean-up with t.
func TestDialect(t *testing.T, open func(t *testing.T) DialectFixture) {
	t.Helper()
	runChecks(t, dialectChecks, open)
}

var dialectChecks = []check[DialectFixture]{
	{"atomic-commit", "an event exists once the transaction that enqueued it committed", checkCommit},
	{"atomic-rollback", "an event does not exist when the transaction that enqueued it rolled back", checkRollback},
	{"atomic-savepoint", "an event that was enqueued after a savepoint goes with it when it is rolled back to", checkSavepoint},
	{"enqueue-order", "positions ascend in argument order", checkEnqueueOrder},
	{"round-trip", "every part of a message is fetched as it was enqueued, byte for byte", checkRoundTrip},
	{"fetch-oldest", "a fetch returns the records with the lowest positions, ascending, at most limit", checkFetchOldest},
	{"acknowledge-both", "an acknowledgement matches position and id, and nothing else is removed", checkAcknowledgeBoth},
	{"acknowledge-again", "an acknowledgement is idempotent", checkAcknowledgeAgain},
	{"position-not-reused", "a position is not used again after every record is gone", checkPositionNotReused},
}

// enqueue runs one transaction with msgs, and ends it by end.
func (f DialectFixture) enqueue(ctx context.Context, end func(*sql.Tx) error, msgs ...core.Message) error {
	tx, err := f.DB.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	defer tx.Rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, msgs...); err != nil {
		return err
	}
	return end(tx)
}

// session runs use with a session of its own.
func (f DialectFixture) session(ctx context.Context, use func(core.Session) error) error {
	s, err := f.Dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return errors.Join(use(s), s.Close())
}

// all returns what the outbox holds.
func (f DialectFixture) all(ctx context.Context) (records []core.Record, err error) {
	err = f.session(ctx, func(s core.Session) error {
		records, err = s.Fetch(ctx, 100_000)
		return err
	})
	return records, err
}

// expect compares the ids in the outbox with want.
func (f DialectFixture) expect(ctx context.Context, want ...string) error {
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	var got []string
	for _, r := range records {
		got = append(got, r.Message.ID)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		return fmt.Errorf("the outbox holds %q, want %q", got, want)
	}
	return nil
}

func event(id string) core.Message {
	return core.Message{ID: id, Topic: "orders", Key: "42", Payload: []byte("{}")}
}

func checkCommit(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, (*sql.Tx).Commit, event("a"), event("b")); err != nil {
		return err
	}
	return f.expect(ctx, "a", "b")
}

func checkRollback(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, (*sql.Tx).Rollback, event("a")); err != nil {
		return err
	}
	return f.expect(ctx)
}

func checkSavepoint(ctx context.Context, f DialectFixture) error {
	err := f.enqueue(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "SAVEPOINT before_b"); err != nil {
			return err
		}
		if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, event("b")); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT before_b"); err != nil {
			return err
		}
		return tx.Commit()
	}, event("a"))
	if err != nil {
		return err
	}
	return f.expect(ctx, "a")
}

func checkEnqueueOrder(ctx context.Context, f DialectFixture) error {
	const n = 10_000 // more than fit into one statement of any dialect that binds each field
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = event(fmt.Sprint(n - i)) // neither ascending nor equal, so that no other order looks right
	}
	if err := f.enqueue(ctx, (*sql.Tx).Commit, msgs...); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	if len(records) != n {
		return fmt.Errorf("%d records were fetched, want %d", len(records), n)
	}
	for i, r := range records {
		if r.Message.ID != msgs[i].ID {
			return fmt.Errorf("record %d is the message %s, want %s", i, r.Message.ID, msgs[i].ID)
		}
	}
	return nil
}

func checkRoundTrip(ctx context.Context, f DialectFixture) error {
	allBytes := make([]byte, 256)
	for i := range allBytes {
		allBytes[i] = byte(i)
	}
	const awkward = `é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s ` + "\t\n"
	msgs := []core.Message{
		{ID: "plain", Topic: "orders", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}")},
		{ID: "least", Topic: "orders"},
		{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward, "empty": ""}, Payload: allBytes},
		{ID: "ends in a space ", Topic: "orders ", Key: "k "},
		{ID: "large", Topic: "orders", Payload: bytes.Repeat([]byte("x"), core.MaxPayloadBytes)},
	}
	if err := f.enqueue(ctx, (*sql.Tx).Commit, msgs...); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	if len(records) != len(msgs) {
		return fmt.Errorf("%d records were fetched, want %d", len(records), len(msgs))
	}
	for i, r := range records {
		got, want := r.Message, msgs[i]
		if got.ID != want.ID || got.Topic != want.Topic || got.Key != want.Key ||
			!maps.Equal(got.Headers, want.Headers) || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("fetched %.400v, want %.400v", got, want)
		}
		// The clock may be another machine's; what is looked for is a wrong unit or time zone.
		if age := time.Since(r.CreatedAt); age < -10*time.Minute || age > 10*time.Minute {
			return fmt.Errorf("message %q was enqueued now, and its CreatedAt is %v", want.ID, r.CreatedAt)
		}
	}
	return nil
}

func checkFetchOldest(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, (*sql.Tx).Commit, event("a"), event("b"), event("c")); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		records, err := s.Fetch(ctx, 2)
		if err != nil {
			return err
		}
		if len(records) != 2 || records[0].Message.ID != "a" || records[1].Message.ID != "b" ||
			records[0].Position >= records[1].Position {
			return fmt.Errorf("Fetch(2) of a, b, c returned %v", records)
		}
		return nil
	})
}

func checkAcknowledgeBoth(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, (*sql.Tx).Commit, event("a"), event("b"), event("c"), event("it's")); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	a, b, quoted := records[0].Ref(), records[1].Ref(), records[3].Ref()
	err = f.session(ctx, func(s core.Session) error {
		return s.Acknowledge(ctx, []core.Ref{
			a,
			{Position: b.Position, ID: "another"},
			{Position: b.Position + 1_000_000, ID: "b"},
			{Position: b.Position, ID: "C"},
			quoted,
		})
	})
	if err != nil {
		return err
	}
	return f.expect(ctx, "b", "c")
}

func checkAcknowledgeAgain(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, (*sql.Tx).Commit, event("a"), event("b")); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	for range 2 {
		err := f.session(ctx, func(s core.Session) error { return s.Acknowledge(ctx, []core.Ref{records[0].Ref()}) })
		if err != nil {
			return err
		}
	}
	return f.expect(ctx, "b")
}

func checkPositionNotReused(ctx context.Context, f DialectFixture) error {
	last := int64(-1)
	for i := range 3 {
		if err := f.enqueue(ctx, (*sql.Tx).Commit, event(fmt.Sprint(i))); err != nil {
			return err
		}
		records, err := f.all(ctx)
		if err != nil {
			return err
		}
		if len(records) != 1 || records[0].Position <= last {
			return fmt.Errorf("after position %d the outbox holds %v, want one record with a higher position", last, records)
		}
		last = records[0].Position
		err = f.session(ctx, func(s core.Session) error { return s.Acknowledge(ctx, []core.Ref{records[0].Ref()}) })
		if err != nil {
			return err
		}
	}
	return nil
}
