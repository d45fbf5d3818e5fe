package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// everything is a fetch of all there is.
var everything = core.FetchRequest{Limit: 100_000, MaxBytes: 1 << 40}

// begin begins a transaction. end rolls it back if it is still open.
func (f DialectFixture) begin(ctx context.Context) (tx Tx, end func(), err error) {
	tx, err = f.Begin(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("begin: %w", err)
	}
	return tx, func() { tx.Rollback() }, nil
}

// enqueue runs one transaction with msgs, and ends it by end.
func (f DialectFixture) enqueue(ctx context.Context, end func(Tx) error, msgs ...core.Message) error {
	tx, rollback, err := f.begin(ctx)
	if err != nil {
		return err
	}
	defer rollback()
	if err := core.NewOutbox(f.Dialect, core.OutboxConfig{}).Enqueue(ctx, tx, msgs...); err != nil {
		return err
	}
	return end(tx)
}

// commit enqueues msgs and commits.
func (f DialectFixture) commit(ctx context.Context, msgs ...core.Message) error {
	return f.enqueue(ctx, Tx.Commit, msgs...)
}

// stored enqueues msgs, commits, and returns their records.
func (f DialectFixture) stored(ctx context.Context, msgs ...core.Message) ([]core.Record, error) {
	if err := f.commit(ctx, msgs...); err != nil {
		return nil, err
	}
	all, err := f.all(ctx)
	if err != nil {
		return nil, err
	}
	var records []core.Record
	for _, m := range msgs {
		i := slices.IndexFunc(all, func(r core.Record) bool { return r.Message.ID == m.ID })
		if i < 0 {
			return nil, fmt.Errorf("%q was enqueued, and the outbox holds %q", m.ID, ids(all))
		}
		records = append(records, all[i])
	}
	return records, nil
}

// session runs use with a session of its own.
func (f DialectFixture) session(ctx context.Context, use func(core.Session) error) error {
	s, err := f.Dialect.Open(ctx)
	if err != nil {
		return fmt.Errorf("open session: %w", err)
	}
	return errors.Join(use(s), s.Close())
}

// sessions runs use with two sessions.
func (f DialectFixture) sessions(ctx context.Context, use func(a, b core.Session) error) error {
	return f.session(ctx, func(a core.Session) error {
		return f.session(ctx, func(b core.Session) error { return use(a, b) })
	})
}

// fetch runs one fetch over a session of its own.
func (f DialectFixture) fetch(ctx context.Context, request core.FetchRequest) (result core.FetchResult, err error) {
	err = f.session(ctx, func(s core.Session) error {
		result, err = s.Fetch(ctx, request)
		return err
	})
	return result, err
}

// all returns what the outbox holds, without blocked keys.
func (f DialectFixture) all(ctx context.Context) ([]core.Record, error) {
	result, err := f.fetch(ctx, everything)
	return result.Records, err
}

// expect compares the ids in the outbox with want.
func (f DialectFixture) expect(ctx context.Context, want ...string) error {
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	return same("the outbox holds", ids(records), want)
}

// same compares lists, with what to say about the first.
func same[T comparable](what string, got, want []T) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s %v, want %v", what, quote(got), quote(want))
	}
	return nil
}

// quote makes the ends of ids visible.
func quote[T any](list []T) any {
	if texts, ok := any(list).([]string); ok {
		return fmt.Sprintf("%q", texts)
	}
	return list
}

func ids(records []core.Record) []string {
	list := make([]string, len(records))
	for i, r := range records {
		list[i] = r.Message.ID
	}
	return list
}

// event is a message of the key 42.
func event(id string) core.Message { return keyed(id, "42") }

// keyed is a message of key.
func keyed(id, key string) core.Message {
	return core.Message{ID: id, Topic: "orders", Key: key, Payload: []byte("{}")}
}

// inTheEnd is how long something that must happen is waited for: less than the time of a check, so that the check says
// what did not happen, instead of being ended.
const inTheEnd = checkTimeout * 2 / 3

// eventually asks done until it says so, for inTheEnd at most.
func eventually(ctx context.Context, what string, done func() (bool, error)) error {
	return within(ctx, inTheEnd, what, done)
}

// within asks done until it says so, for so long at most.
func within(ctx context.Context, most time.Duration, what string, done func() (bool, error)) error {
	return polled(ctx, most, 5*time.Millisecond, what, done)
}

// polled asks done until it says so, for so long at most, with so long a pause between.
func polled(ctx context.Context, most, pause time.Duration, what string, done func() (bool, error)) error {
	limit := time.NewTimer(most)
	defer limit.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-limit.C:
			return fmt.Errorf("%s: not within %v", what, most)
		case <-time.After(pause):
		}
	}
}

// meanwhile asks look again and again for the fixture's patience, and returns its first error.
func (f DialectFixture) meanwhile(ctx context.Context, look func() error) error {
	patience := f.Patience
	if patience == 0 {
		patience = 3 * time.Second
	}
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if err := look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(patience / 20):
		}
	}
	return nil
}

func exactly(n int64) core.Count { return core.Count{N: n, Exact: true} }
