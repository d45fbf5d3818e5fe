package conformance

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var settleChecks = []check[DialectFixture]{
	{"acknowledge-both", "an acknowledgement removes the records that match both position and id, and leaves every other, and dead letters, blocked keys and delayed events", checkAcknowledgeBoth},
	{"acknowledge-again", "a record that is already gone is no error", checkAcknowledgeAgain},
	{"acknowledge-many", "an acknowledgement removes the records that match, however many", checkAcknowledgeMany},
	{"fail-noted", "each record that failed gets its attempts and its retry time, by the database's clock", checkFailNoted},
	{"fail-once", "a failure is noted where the record has one attempt less, and so once when it is repeated", checkFailOnce},
	{"fail-both", "a failure is noted where position and id match, and nowhere else", checkFailBoth},
}

func checkAcknowledgeBoth(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"), event("b"), event("c"), event("it's"), event("é漢😀"), longest("longest "),
		keyed("dead", "blocked"), keyed("behind it", "blocked"))
	if err != nil {
		return err
	}
	a, b, quoted, foreign, long, dead := records[0].Ref(), records[1].Ref(), records[3].Ref(), records[4].Ref(), records[5].Ref(), records[6].Ref()
	if err := f.commit(ctx, delayed("later", time.Hour)); err != nil {
		return err
	}
	err = f.session(ctx, func(s core.Session) error {
		return firstError(bury(ctx, s, records[6]), s.Acknowledge(ctx, []core.Ref{
			a,
			{Position: b.Position, ID: "another"},
			{Position: b.Position + 1_000_000, ID: "b"},
			{Position: b.Position, ID: "B"},
			{Position: b.Position, ID: "b "},
			quoted,
			foreign,
			long,
			dead, // a confirmation that comes after an earlier attempt of it was the last one
		}))
	})
	if err != nil {
		return err
	}
	return firstError(f.expect(ctx, "b", "c"), f.expectDead(ctx, core.DeadFilter{}, "dead"), f.expectBlocked(ctx, "blocked"),
		f.expectDelayed(ctx, 1))
}

// expectDelayed compares the number of delayed events.
func (f DialectFixture) expectDelayed(ctx context.Context, want int64) error {
	return f.session(ctx, func(s core.Session) error {
		got, err := s.Stats(ctx)
		if err == nil && got.Delayed != exactly(want) {
			err = fmt.Errorf("there are %+v delayed events, want %d", got.Delayed, want)
		}
		return err
	})
}

func checkAcknowledgeAgain(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"), event("b"), event("c"))
	if err != nil {
		return err
	}
	for range 2 {
		err := f.session(ctx, func(s core.Session) error {
			return s.Acknowledge(ctx, []core.Ref{records[1].Ref(), records[1].Ref()})
		})
		if err != nil {
			return err
		}
	}
	return f.expect(ctx, "a", "c")
}

func checkAcknowledgeMany(ctx context.Context, f DialectFixture) error {
	const n = 5000
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = event(fmt.Sprint(i))
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	var refs []core.Ref
	for _, r := range records[:n-1] {
		refs = append(refs, r.Ref())
	}
	if err := f.session(ctx, func(s core.Session) error { return s.Acknowledge(ctx, refs) }); err != nil {
		return err
	}
	return f.expect(ctx, fmt.Sprint(n-1))
}

// failed notes failures and returns what the outbox holds then.
func (f DialectFixture) failed(ctx context.Context, failures ...core.Failure) (records []core.Record, err error) {
	err = f.session(ctx, func(s core.Session) error { return s.Fail(ctx, failures) })
	if err != nil {
		return nil, err
	}
	return f.all(ctx)
}

func checkFailNoted(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(3)...)
	if err != nil {
		return err
	}
	failed, err := f.failed(ctx,
		core.Failure{Ref: records[0].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "it's é漢😀"},
		core.Failure{Ref: records[1].Ref(), Attempts: 1, RetryIn: 150 * time.Millisecond, Cause: "x"})
	if err != nil {
		return err
	}
	if a := failed[0]; a.Attempts != 1 || a.RetryIn > time.Hour || a.RetryIn < 50*time.Minute {
		return fmt.Errorf("after its first failure, to be retried in an hour, it has %d attempts and is due in %v", a.Attempts, a.RetryIn)
	}
	if b := failed[1]; b.Attempts != 1 || b.RetryIn > 150*time.Millisecond {
		return fmt.Errorf("the second of two failures in one call, to be retried in 150 ms, has %d attempts and is due in %v", b.Attempts, b.RetryIn)
	}
	if c := failed[2]; c.Attempts != 0 || c.RetryIn > 0 {
		return fmt.Errorf("a record that did not fail has %d attempts and is due in %v", c.Attempts, c.RetryIn)
	}
	err = eventually(ctx, "a record whose retry time is over is not due", func() (bool, error) {
		all, err := f.all(ctx)
		return err == nil && all[1].RetryIn <= 0, err
	})
	return firstError(err, f.failMany(ctx))
}

// many is more failures, or burials, than a dialect may put into one statement.
const many = 250

// numberedKeys is many messages, each of a key of its own.
func numberedKeys() []core.Message {
	msgs := make([]core.Message, many)
	for i := range msgs {
		msgs[i] = keyed(fmt.Sprint("event ", i), fmt.Sprint("key ", i))
	}
	return msgs
}

// causes are what a broker's client may put into an error's text. The first two hold what not every database takes as text.
var causes = []string{"before \x00 after", "before \xff\xc3( after", strings.Repeat("漢", 3000), ""}

// failMany notes many failures in one call, with causes of every kind.
func (f DialectFixture) failMany(ctx context.Context) error {
	records, err := f.stored(ctx, numberedKeys()...)
	if err != nil {
		return err
	}
	var failures []core.Failure
	for i, r := range records {
		failures = append(failures, core.Failure{Ref: r.Ref(), Attempts: 1, RetryIn: time.Hour, Cause: causes[i%len(causes)]})
	}
	all, err := f.failed(ctx, failures...)
	if err != nil {
		return err
	}
	for _, r := range all[len(all)-len(records):] {
		if r.Attempts != 1 || r.RetryIn < 50*time.Minute {
			return fmt.Errorf("of %d failures in one call, to be retried in an hour, that of %q left it with %d attempts and due in %v", len(failures), r.Message.ID, r.Attempts, r.RetryIn)
		}
	}
	return nil
}

func checkFailOnce(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"))
	if err != nil {
		return err
	}
	ref := records[0].Ref()
	for _, tt := range []struct {
		attempts int // that Fail is called with
		retryIn  time.Duration
		want     int
	}{
		{2, time.Minute, 0}, // two attempts do not follow none
		{1, time.Hour, 1},
		{1, time.Minute, 1},
		{2, 2 * time.Hour, 2},
		{1, time.Minute, 2},
	} {
		failed, err := f.failed(ctx, core.Failure{Ref: ref, Attempts: tt.attempts, RetryIn: tt.retryIn, Cause: "x"})
		if err != nil {
			return err
		}
		got := failed[0]
		if got.Attempts != tt.want || got.RetryIn > time.Duration(tt.want)*time.Hour || got.RetryIn < time.Duration(tt.want)*time.Hour-10*time.Minute {
			return fmt.Errorf("after Fail with %d attempts it has %d and is due in %v, want %d and about %d h", tt.attempts, got.Attempts, got.RetryIn, tt.want, tt.want)
		}
	}
	return nil
}

func checkFailBoth(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(2)...)
	if err != nil {
		return err
	}
	a, b := records[0].Position, records[1].Position
	failed, err := f.failed(ctx,
		core.Failure{Ref: core.Ref{Position: a, ID: "another"}, Attempts: 1, RetryIn: time.Hour, Cause: "x"},
		core.Failure{Ref: core.Ref{Position: b, ID: "a"}, Attempts: 1, RetryIn: time.Hour, Cause: "x"},
		core.Failure{Ref: core.Ref{Position: b + 1000, ID: "b"}, Attempts: 1, RetryIn: time.Hour, Cause: "x"})
	if err != nil {
		return err
	}
	for _, r := range failed {
		if r.Attempts != 0 || r.RetryIn > 0 {
			return fmt.Errorf("%q has %d attempts after a failure of another record", r.Message.ID, r.Attempts)
		}
	}
	return nil
}
