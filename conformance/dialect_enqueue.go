package conformance

import (
	"bytes"
	"context"
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
	{"position-not-reused", "a position is not used again after every record is gone", checkPositionNotReused},
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
		if age := time.Since(r.CreatedAt); age < -10*time.Minute || age > 10*time.Minute {
			return fmt.Errorf("message %q was enqueued now, and its CreatedAt is %v", want.ID, r.CreatedAt)
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
