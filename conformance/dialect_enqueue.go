package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var enqueueChecks = []check[DialectFixture]{
	{"atomic-commit", "an event exists once the transaction that enqueued it committed", checkCommit},
	{"atomic-rollback", "an event does not exist when the transaction that enqueued it rolled back", checkRollback},
	{"atomic-savepoint", "an event that was enqueued after a savepoint goes with it when it is rolled back to", checkSavepoint},
	{"enqueue-order", "positions ascend in argument order", checkEnqueueOrder},
	{"round-trip", "every part of a message is fetched as it was enqueued, byte for byte", checkRoundTrip},
	{"enqueue-keeps-nothing", "the messages of Enqueue must not be kept or changed", checkEnqueueKeepsNothing},
	{"position-not-reused", "a position is not used again after every record is gone", checkPositionNotReused},
}

var enqueueSQLChecks = []check[DialectFixture]{
	{"enqueue-statement", "Enqueue inserts through tx with as few statements as the database allows, and does not look at the sql.Result", checkEnqueueStatement},
	{"enqueue-error", "Enqueue must not retry: every error goes back to the caller, whose transaction it is", checkEnqueueError},
}

func checkCommit(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, event("a"), event("b")); err != nil {
		return err
	}
	return f.expect(ctx, "a", "b")
}

func checkRollback(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, Tx.Rollback, event("a")); err != nil {
		return err
	}
	return f.expect(ctx)
}

func checkSavepoint(ctx context.Context, f DialectFixture) error {
	err := f.enqueue(ctx, func(tx Tx) error {
		savepoints := savepointer(tx)
		if err := savepoints.Savepoint(ctx); err != nil {
			return err
		}
		if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, event("b")); err != nil {
			return err
		}
		if err := savepoints.RollbackTo(ctx); err != nil {
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
	if err := f.commit(ctx, msgs...); err != nil {
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
	const awkward = `é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s ` + "\t\n"
	msgs := []core.Message{
		{ID: "plain", Topic: "orders", Key: "42", Headers: map[string]string{"h": "v"}, Payload: []byte("{}")},
		{ID: "least", Topic: "orders"},
		{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward, "empty": ""}, Payload: everyByte()},
		{ID: "empty", Topic: "orders", Headers: map[string]string{}, Payload: []byte{}}, // which is the same as nil
		longest("longest "),
		{ID: "ends in a space ", Topic: "orders ", Key: "k "},
		{ID: "large", Topic: "orders", Payload: bytes.Repeat([]byte("x"), core.MaxPayloadBytes)},
	}
	if err := f.commit(ctx, msgs...); err != nil {
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
		if age := time.Since(r.Message.EnqueuedAt); age < -10*time.Minute || age > 10*time.Minute {
			return fmt.Errorf("message %q was enqueued now, and its EnqueuedAt is %v", want.ID, r.Message.EnqueuedAt)
		}
	}
	return nil
}

func checkPositionNotReused(ctx context.Context, f DialectFixture) error {
	last := int64(-1)
	for i := range 3 {
		if err := f.commit(ctx, event(fmt.Sprint(i))); err != nil {
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

func checkEnqueueKeepsNothing(ctx context.Context, f DialectFixture) error {
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	msgs := letters(2)
	msgs[0].Headers = map[string]string{"h": "v"}
	msgs[1].Payload = []byte("payload")
	given := copyMessages(msgs)
	if err := f.Dialect.Enqueue(ctx, tx, msgs); err != nil {
		return err
	}
	for i := range msgs {
		if !sameMessage(&msgs[i], &given[i]) {
			return fmt.Errorf("the message %v was changed to %v", given[i], msgs[i])
		}
	}
	msgs[0].Headers["h"] = "another"
	copy(msgs[1].Payload, "another")
	msgs[0].ID = "another"
	if err := tx.Commit(); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil || len(records) != 2 {
		return fmt.Errorf("the outbox holds %v, want two records (%v)", records, err)
	}
	for i, r := range records {
		if got := r.Message; got.ID != given[i].ID || !maps.Equal(got.Headers, given[i].Headers) || !bytes.Equal(got.Payload, given[i].Payload) {
			return fmt.Errorf("the message %v was changed after Enqueue had returned, and %v is stored", given[i], got)
		}
	}
	return nil
}

// enqueueThrough enqueues through a transaction that returns no results, and counts the statements.
func (f DialectFixture) enqueueThrough(ctx context.Context, tx core.Execer, fault error) (statements int, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("Enqueue through a transaction whose results are nil panicked: %v", p)
		}
	}()
	through := core.ExecFunc(func(ctx context.Context, query string, args ...any) error {
		statements++
		if fault != nil {
			return fault
		}
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	})
	return statements, f.Dialect.Enqueue(ctx, through, letters(5))
}

func checkEnqueueStatement(ctx context.Context, f DialectFixture) error {
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	statements, err := f.enqueueThrough(ctx, tx, nil)
	if err == nil && statements != 1 {
		err = fmt.Errorf("5 messages were enqueued with %d statements, want 1", statements)
	}
	return firstError(err, tx.Commit(), f.expect(ctx, "a", "b", "c", "d", "e"))
}

func checkEnqueueError(ctx context.Context, f DialectFixture) error {
	fault := errors.New("the database's")
	statements, err := f.enqueueThrough(ctx, nil, fault)
	if !errors.Is(err, fault) || statements != 1 {
		return fmt.Errorf("a transaction whose statements fail was given %d of them, and Enqueue returned %v, want 1 and the failure", statements, err)
	}
	return nil
}
