package conformance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var buryChecks = []check[DialectFixture]{
	{"bury-moves", "what is buried is removed from the outbox and inserted into the dead letters, complete", checkBuryMoves},
	{"bury-blocks", "the key of what is buried is blocked unless Skip is set; an empty key is no key", checkBuryBlocks},
	{"bury-again", "a burial is idempotent", checkBuryAgain},
	{"bury-late", "a burial moves what has one attempt less: one that comes late, after an operator's retry, does nothing", checkBuryLate},
	{"bury-both", "what does not match position and id is passed over, and its key is not blocked", checkBuryBoth},
}

// dead returns the dead letters that match filter.
func (f DialectFixture) dead(ctx context.Context, filter core.DeadFilter) (letters []core.DeadLetter, err error) {
	err = f.session(ctx, func(s core.Session) error {
		letters, err = s.ListDead(ctx, filter, core.Ref{}, 1000)
		return err
	})
	return letters, err
}

// expectDead compares the ids of the dead letters that match filter with want.
func (f DialectFixture) expectDead(ctx context.Context, filter core.DeadFilter, want ...string) error {
	letters, err := f.dead(ctx, filter)
	if err != nil {
		return err
	}
	return same(fmt.Sprintf("the dead letters that match %+v are", filter), deadIDs(letters), want)
}

func deadIDs(letters []core.DeadLetter) []string {
	list := make([]string, len(letters))
	for i, l := range letters {
		list[i] = l.Message.ID
	}
	return list
}

// expectBlocked compares the blocked keys with want.
func (f DialectFixture) expectBlocked(ctx context.Context, want ...string) error {
	var got []string
	err := f.session(ctx, func(s core.Session) error {
		keys, err := s.ListBlocked(ctx, "", "", 1000)
		for _, k := range keys {
			got = append(got, k.Key)
		}
		return err
	})
	if err != nil {
		return err
	}
	return same("the blocked keys are", got, want)
}

func checkBuryMoves(ctx context.Context, f DialectFixture) error {
	const awkward = `é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`
	msgs := []core.Message{
		{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward}, Payload: []byte{0, 255, '\''}},
		longest("longest "), event("b"),
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	err = f.session(ctx, func(s core.Session) error {
		for attempt := range 6 {
			err := s.Fail(ctx, []core.Failure{{Ref: records[0].Ref(), Attempts: attempt + 1, Cause: "x"}, {Ref: records[1].Ref(), Attempts: attempt + 1, Cause: "x"}})
			if err != nil {
				return err
			}
		}
		// Skip, because a record that was left behind would not be fetched while its key is blocked.
		return s.Bury(ctx, []core.Burial{{Ref: records[0].Ref(), Attempts: 7, Cause: awkward, Skip: true}, {Ref: records[1].Ref(), Attempts: 7, Cause: awkward, Skip: true}})
	})
	if err != nil {
		return err
	}
	if err := f.expect(ctx, "b"); err != nil {
		return err
	}
	dead, err := f.dead(ctx, core.DeadFilter{})
	if err != nil || len(dead) != 2 {
		return fmt.Errorf("the dead letters are %v, want two (%v)", dead, err)
	}
	for i, got := range dead {
		if err := buriedAs(got, msgs[i], records[i], awkward); err != nil {
			return err
		}
	}
	return f.buryMany(ctx)
}

// buriedAs compares a dead letter with what was enqueued, its record and its cause, after seven attempts.
func buriedAs(got core.DeadLetter, msg core.Message, want core.Record, cause string) error {
	m := got.Message
	if m.ID != msg.ID || m.Topic != msg.Topic || m.Key != msg.Key || !maps.Equal(m.Headers, msg.Headers) || !bytes.Equal(m.Payload, msg.Payload) {
		return fmt.Errorf("the dead letter's message is %.400v, want %.400v", m, msg)
	}
	if got.Position != want.Position || !got.Message.EnqueuedAt.Equal(want.Message.EnqueuedAt) || got.Attempts != 7 || got.Cause != cause {
		return fmt.Errorf("the dead letter is %.400v, want position and time of %.400v, 7 attempts and the cause", got, want)
	}
	if age := time.Since(got.BuriedAt); age < -10*time.Minute || age > 10*time.Minute {
		return fmt.Errorf("the dead letter was buried now, and its BuriedAt is %v", got.BuriedAt)
	}
	return nil
}

// buryMany buries many records in one call, with causes of every kind, and puts all of them back in one.
func (f DialectFixture) buryMany(ctx context.Context) error {
	records, err := f.stored(ctx, numberedKeys()...)
	if err != nil {
		return err
	}
	var burials []core.Burial
	for i, r := range records {
		burials = append(burials, core.Burial{Ref: r.Ref(), Attempts: 1, Cause: causes[i%len(causes)]})
	}
	err = f.session(ctx, func(s core.Session) error { return s.Bury(ctx, burials) })
	if err := firstError(err, f.expect(ctx, "b")); err != nil {
		return err
	}
	dead, err := f.dead(ctx, core.DeadFilter{})
	if err != nil {
		return err
	}
	dead = slices.DeleteFunc(dead, func(l core.DeadLetter) bool { return l.Attempts != 1 })
	if err := same("the dead letters of one call are", deadIDs(dead), ids(records)); err != nil {
		return err
	}
	for i, l := range dead {
		if want := causes[i%len(causes)]; !tellsOf(l.Cause, want) {
			return fmt.Errorf("the dead letter's cause is %.1100q, want what text can hold of %.1100q, the first KiB at least", l.Cause, want)
		}
	}
	return f.session(ctx, func(s core.Session) error {
		return firstError(
			expectCount("RetryDead of all of one call", many)(s.RetryDead(ctx, core.DeadFilter{Topic: "orders"}, 2*many)),
			f.expectBlocked(ctx), f.expect(ctx, append([]string{"b"}, ids(records)...)...))
	})
}

// tellsOf says that a cause as it is stored is as much of what it was as has to be kept.
func tellsOf(stored, cause string) bool {
	if before, after := "before ", " after"; strings.HasPrefix(cause, before) {
		return strings.HasPrefix(stored, before) && strings.HasSuffix(stored, after)
	}
	return strings.HasPrefix(stored, cause[:min(len(cause), 1<<10/3*3)]) // no letter is cut in two
}

func checkBuryBlocks(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, keyed("a", "blocked"), keyed("b", "skipped"), keyed("c", ""), keyed("d", "skipped"), keyed("e", ""), keyed("f", "blocked"))
	if err != nil {
		return err
	}
	err = f.session(ctx, func(s core.Session) error {
		return s.Bury(ctx, []core.Burial{
			{Ref: records[0].Ref(), Attempts: 1, Cause: "x"},
			{Ref: records[1].Ref(), Attempts: 1, Cause: "x", Skip: true},
			{Ref: records[2].Ref(), Attempts: 1, Cause: "x"},
		})
	})
	if err != nil {
		return err
	}
	return firstError(f.expect(ctx, "d", "e"), f.expectBlocked(ctx, "blocked"), f.expectDead(ctx, core.DeadFilter{}, "a", "b", "c"))
}

func checkBuryAgain(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"), event("b"))
	if err != nil {
		return err
	}
	for range 2 {
		err := f.session(ctx, func(s core.Session) error { return bury(ctx, s, records[0], records[0]) })
		if err != nil {
			return err
		}
	}
	return firstError(f.expect(ctx), f.expectBlocked(ctx, "42"), f.expectDead(ctx, core.DeadFilter{}, "a"))
}

func checkBuryBoth(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, letters(2)...)
	if err != nil {
		return err
	}
	a, gone := records[0].Ref(), records[1].Ref()
	err = f.session(ctx, func(s core.Session) error {
		if err := s.Acknowledge(ctx, []core.Ref{gone}); err != nil {
			return err
		}
		return s.Bury(ctx, []core.Burial{
			{Ref: core.Ref{Position: a.Position, ID: "another"}, Attempts: 1, Cause: "x"},
			{Ref: core.Ref{Position: a.Position + 1000, ID: "a"}, Attempts: 1, Cause: "x"},
			{Ref: gone, Attempts: 1, Cause: "x"},
		})
	})
	if err != nil {
		return err
	}
	return firstError(f.expect(ctx, "a"), f.expectBlocked(ctx), f.expectDead(ctx, core.DeadFilter{}))
}

func checkBuryLate(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"), event("b"))
	if err != nil {
		return err
	}
	// Two relays had it in flight; one was slow, and an operator quick.
	late := core.Burial{Ref: records[0].Ref(), Attempts: 2, Cause: "x"}
	return f.session(ctx, func(s core.Session) error {
		for range 2 {
			err := firstError(
				s.Fail(ctx, []core.Failure{{Ref: late.Ref, Attempts: 1, Cause: "x"}}),
				s.Bury(ctx, []core.Burial{late}),
				f.expectDead(ctx, core.DeadFilter{}, "a"), f.expectBlocked(ctx, "42"), f.expect(ctx),
				expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{}, 10)),
				s.Bury(ctx, []core.Burial{late}),
				f.expectDead(ctx, core.DeadFilter{}), f.expectBlocked(ctx), f.expect(ctx, "a", "b"))
			if err != nil {
				return err
			}
		}
		return nil
	})
}
