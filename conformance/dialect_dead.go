package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var deadChecks = []check[DialectFixture]{
	{"dead-filter", "a filter selects the dead letters that match every field that is set, bytewise, to be listed, counted, retried or dropped", checkDeadFilter},
	{"dead-older", "OlderThan matches what was buried at least so long ago, by the database's clock", checkDeadOlder},
	{"dead-pages", "ListDead returns the dead letters that come after (position, id), ascending, ids bytewise, at most limit", checkDeadPages},
	{"dead-retry", "RetryDead puts dead letters back into the outbox, at their old positions, without attempts, unblocks their keys and bumps the generation", checkDeadRetry},
	{"dead-retry-blocked", "RetryDead unblocks a key unless another dead letter of the key blocks it", checkDeadRetryBlocked},
	{"dead-drop", "DropDead leaves dead letters, marked with the reason, unblocks their keys and bumps the generation; they match no filter again but one that asks for dropped ones", checkDeadDrop},
	{"dead-limit", "RetryDead and DropDead act on the first dead letters that match, at most limit", checkDeadLimit},
	{"unblock", "Unblock lets a key go on without its dead letters, which stay, bumps the generation, and reports whether the key was blocked", checkUnblock},
	{"blocked-pages", "ListBlocked returns the blocked keys that come after (topic, key) in bytewise order, at most limit", checkBlockedPages},
}

// buried enqueues msgs and buries them all, each with the cause "the cause of <id>".
func (f DialectFixture) buried(ctx context.Context, msgs ...core.Message) ([]core.Record, error) {
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return nil, err
	}
	return records, f.session(ctx, func(s core.Session) error { return bury(ctx, s, records...) })
}

// deadCases are filters for the letters of deadLetters, and the ids of those that match.
var deadCases = []struct {
	filter core.DeadFilter
	want   []string
}{
	{core.DeadFilter{}, []string{"a", "b", "c", "100%_d", awkwardDead}},
	{core.DeadFilter{ID: "b"}, []string{"b"}},
	{core.DeadFilter{ID: "B"}, nil},
	{core.DeadFilter{ID: awkwardDead}, []string{awkwardDead}},
	{core.DeadFilter{Topic: "t"}, []string{"a", "b"}},
	{core.DeadFilter{Topic: "o'brien"}, []string{awkwardDead}},
	{core.DeadFilter{Key: "1"}, []string{"a", "c", "100%_d"}},
	{core.DeadFilter{Key: `k'"\ `}, []string{awkwardDead}},
	{core.DeadFilter{Key: `k'"\`}, nil},
	{core.DeadFilter{Topic: "t", Key: "1"}, []string{"a"}},
	{core.DeadFilter{CauseContains: "cause of"}, []string{"a", "b", "c", "100%_d", awkwardDead}},
	{core.DeadFilter{CauseContains: "of b"}, []string{"b"}},
	{core.DeadFilter{CauseContains: "OF b"}, nil},
	{core.DeadFilter{CauseContains: "0%_d"}, []string{"100%_d"}},
	{core.DeadFilter{CauseContains: "%"}, []string{"100%_d"}},
	{core.DeadFilter{CauseContains: "_"}, []string{"100%_d"}},
	{core.DeadFilter{CauseContains: `t's "e`}, []string{awkwardDead}},
	{core.DeadFilter{CauseContains: `\`}, []string{awkwardDead}},
	{core.DeadFilter{CauseContains: "{limit} ? $1"}, []string{awkwardDead}},
	{core.DeadFilter{CauseContains: "of b", Topic: "T"}, nil},
	{core.DeadFilter{OlderThan: time.Hour}, nil},
	{core.DeadFilter{ID: "a", OlderThan: time.Hour}, nil},
	{core.DeadFilter{Dropped: true}, nil},
}

// awkwardDead is an id, and so a part of a cause, that means something to who puts it into a statement as it is.
const awkwardDead = `it's "e" \{limit} ? $1`

// deadLetters are of a key each.
func deadLetters() []core.Message {
	return []core.Message{
		{ID: "a", Topic: "t", Key: "1"}, {ID: "b", Topic: "t", Key: "2"}, {ID: "c", Topic: "T", Key: "1"},
		{ID: "100%_d", Topic: "t ", Key: "1"}, {ID: awkwardDead, Topic: "o'brien", Key: `k'"\ `},
	}
}

func checkDeadFilter(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, deadLetters()...); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error { // one for all: there are many calls
		for _, tt := range deadCases {
			err := listedAndCounted(ctx, s, tt.filter, tt.want...)
			if err == nil && !tt.filter.Dropped { // core refuses to retry what was dropped
				err = retriedAndBuriedAgain(ctx, s, tt.filter, tt.want)
			}
			if err != nil {
				return err
			}
		}
		return droppedByFilters(ctx, s)
	})
}

// listedAndCounted compares what ListDead and CountDead say of filter.
func listedAndCounted(ctx context.Context, s core.Session, filter core.DeadFilter, want ...string) error {
	letters, err := s.ListDead(ctx, filter, core.Ref{}, 1000)
	if err != nil {
		return err
	}
	got, err := s.CountDead(ctx, filter)
	if err == nil && got != int64(len(want)) {
		err = fmt.Errorf("CountDead(%+v) returned %d, want %d", filter, got, len(want))
	}
	return firstError(same(fmt.Sprintf("the dead letters that match %+v are", filter), deadIDs(letters), want), err)
}

// retriedAndBuriedAgain retries by filter, and buries again what that put back.
func retriedAndBuriedAgain(ctx context.Context, s core.Session, filter core.DeadFilter, want []string) error {
	what := fmt.Sprintf("RetryDead(%+v)", filter)
	if err := expectCount(what, len(want))(s.RetryDead(ctx, filter, 10)); err != nil {
		return err
	}
	back, err := s.Fetch(ctx, everything)
	if err != nil {
		return err
	}
	return firstError(same("after "+what+" the outbox holds", ids(back.Records), want), bury(ctx, s, back.Records...))
}

// droppedByFilters drops one letter after the other, by a filter that the others do not match. The last one stays.
func droppedByFilters(ctx context.Context, s core.Session) error {
	left := []string{"a", "b", "c", "100%_d", awkwardDead}
	for _, tt := range []struct {
		filter core.DeadFilter
		want   []string
	}{
		{core.DeadFilter{OlderThan: time.Hour}, nil},
		{core.DeadFilter{CauseContains: "%"}, []string{"100%_d"}},
		{core.DeadFilter{Key: "2"}, []string{"b"}},
		{core.DeadFilter{Key: "2"}, nil},
		{core.DeadFilter{Topic: "T"}, []string{"c"}},
		{core.DeadFilter{ID: "a"}, []string{"a"}},
	} {
		left = slices.DeleteFunc(left, func(id string) bool { return slices.Contains(tt.want, id) })
		err := firstError(
			expectCount(fmt.Sprintf("DropDead(%+v)", tt.filter), len(tt.want))(s.DropDead(ctx, tt.filter, "over", 10)),
			listedAndCounted(ctx, s, core.DeadFilter{}, left...),
			expectCount(fmt.Sprintf("RetryDead(%+v) of what was dropped", tt.filter), 0)(s.RetryDead(ctx, tt.filter, 10)))
		if err != nil {
			return err
		}
	}
	return firstError(
		listedAndCounted(ctx, s, core.DeadFilter{Dropped: true}, "a", "b", "c", "100%_d"),
		listedAndCounted(ctx, s, core.DeadFilter{Dropped: true, Key: "2"}, "b"),
		listedAndCounted(ctx, s, core.DeadFilter{Dropped: true, CauseContains: "_"}, "100%_d"))
}

func (f DialectFixture) expectDeadCount(ctx context.Context, filter core.DeadFilter, want int) error {
	return f.session(ctx, func(s core.Session) error {
		got, err := s.CountDead(ctx, filter)
		if err == nil && got != int64(want) {
			err = fmt.Errorf("CountDead(%+v) returned %d, want %d", filter, got, want)
		}
		return err
	})
}

func checkDeadOlder(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, event("a")); err != nil {
		return err
	}
	if err := f.expectDead(ctx, core.DeadFilter{OlderThan: time.Hour}); err != nil {
		return err
	}
	// Much less than a check waits: who takes milliseconds for seconds is found out.
	const age = 100 * time.Millisecond
	err := eventually(ctx, "a dead letter does not get older than 100 ms", func() (bool, error) {
		dead, err := f.dead(ctx, core.DeadFilter{OlderThan: age})
		return len(dead) == 1, err
	})
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		aged := core.DeadFilter{OlderThan: age}
		return firstError(
			f.expectDeadCount(ctx, aged, 1),
			expectCount("RetryDead of what is older than 100 ms", 1)(s.RetryDead(ctx, aged, 10)), f.expect(ctx, "a"),
			f.buriedNow(ctx, s),
			eventually(ctx, "a dead letter that is older than 100 ms is not dropped", func() (bool, error) {
				n, err := s.DropDead(ctx, aged, "over", 10)
				return n == 1, err
			}))
	})
}

// buriedNow buries all that the outbox holds.
func (f DialectFixture) buriedNow(ctx context.Context, s core.Session) error {
	records, err := f.all(ctx)
	return firstError(err, bury(ctx, s, records...))
}

func checkDeadPages(ctx context.Context, f DialectFixture) error {
	records, err := f.buried(ctx, letters(5)...)
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		// A position can be that of several dead letters, after a restore: the id belongs to where a page goes on.
		for _, tt := range []struct {
			after core.Ref
			limit int
			want  []string
		}{
			{core.Ref{}, 2, []string{"a", "b"}},
			{records[1].Ref(), 2, []string{"c", "d"}},
			{records[3].Ref(), 2, []string{"e"}},
			{records[4].Ref(), 2, nil},
			{core.Ref{Position: records[2].Position}, 2, []string{"c", "d"}},
			{core.Ref{Position: records[2].Position, ID: "B"}, 2, []string{"c", "d"}},
			{core.Ref{Position: records[2].Position, ID: "D"}, 2, []string{"c", "d"}}, // bytewise, before c
			{core.Ref{Position: records[2].Position, ID: "é"}, 2, []string{"d", "e"}},
			{core.Ref{Position: records[2].Position - 1, ID: "x"}, 1, []string{"c"}},
		} {
			page, err := s.ListDead(ctx, core.DeadFilter{}, tt.after, tt.limit)
			if err != nil {
				return err
			}
			if err := same(fmt.Sprintf("%d dead letters after %+v are", tt.limit, tt.after), deadIDs(page), tt.want); err != nil {
				return err
			}
		}
		return nil
	})
}

// expectCount compares how many dead letters a call changed.
func expectCount(what string, want int) func(got int, err error) error {
	return func(got int, err error) error {
		if err == nil && got != want {
			err = fmt.Errorf("%s returned %d, want %d", what, got, want)
		}
		return err
	}
}

func checkDeadRetry(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, event("a"), event("b"), keyed("c", "other"))
	if err != nil {
		return err
	}
	failed, err := f.failed(ctx, core.Failure{Ref: records[0].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "x"})
	if err != nil {
		return err
	}
	if err := f.session(ctx, func(s core.Session) error { return bury(ctx, s, failed[0]) }); err != nil {
		return err
	}
	err = f.bumps(ctx, "RetryDead", func(s core.Session) error {
		return expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{ID: "a"}, 10))
	})
	if err := firstError(err, f.expectBlocked(ctx), f.expectDead(ctx, core.DeadFilter{}), f.expect(ctx, "a", "b", "c")); err != nil {
		return err
	}
	all, err := f.all(ctx)
	if err != nil {
		return err
	}
	got, want := all[0], records[0]
	if got.Ref() != want.Ref() || got.Attempts != 0 || got.RetryIn > 0 || !got.Message.EnqueuedAt.Equal(want.Message.EnqueuedAt) || string(got.Message.Payload) != string(want.Message.Payload) {
		return fmt.Errorf("the retried dead letter is %+v, want %+v", got, want)
	}
	return f.session(ctx, func(s core.Session) error {
		return expectCount("RetryDead of what was retried", 0)(s.RetryDead(ctx, core.DeadFilter{ID: "a"}, 10))
	})
}

// Two dead letters block one key: a relay that was overtaken may bury late.
func checkDeadRetryBlocked(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, event("a"), event("b")); err != nil {
		return err
	}
	if err := f.commit(ctx, event("c")); err != nil {
		return err
	}
	retry := func(id string) error {
		return f.session(ctx, func(s core.Session) error {
			return expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{ID: id}, 1))
		})
	}
	return firstError(
		f.expectBlocked(ctx, "42"),
		retry("a"), f.expectBlocked(ctx, "42"), f.expect(ctx),
		retry("b"), f.expectBlocked(ctx), f.expect(ctx, "a", "b", "c"))
}

func checkDeadDrop(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, event("a"), keyed("b", "other")); err != nil {
		return err
	}
	if err := f.commit(ctx, event("c")); err != nil {
		return err
	}
	drop := func(want int) func(s core.Session) error {
		return func(s core.Session) error {
			return expectCount("DropDead", want)(s.DropDead(ctx, core.DeadFilter{ID: "a"}, "it's over", 10))
		}
	}
	err := firstError(
		f.bumps(ctx, "DropDead", drop(1)),
		f.session(ctx, drop(0)),
		f.expect(ctx, "c"), f.expectBlocked(ctx, "other"),
		f.expectDead(ctx, core.DeadFilter{}, "b"), f.expectDead(ctx, core.DeadFilter{ID: "a"}),
		f.expectDead(ctx, core.DeadFilter{Dropped: true}, "a"),
		f.expectDeadCount(ctx, core.DeadFilter{}, 1), f.expectDeadCount(ctx, core.DeadFilter{Dropped: true}, 1))
	if err != nil {
		return err
	}
	dropped, err := f.dead(ctx, core.DeadFilter{Dropped: true})
	if err == nil && (dropped[0].DropReason != "it's over" || dropped[0].Cause != "the cause of a") {
		err = fmt.Errorf("the dropped dead letter has the reason %q and the cause %q", dropped[0].DropReason, dropped[0].Cause)
	}
	return firstError(err, f.session(ctx, func(s core.Session) error {
		return firstError(
			expectCount("RetryDead of a dropped one", 0)(s.RetryDead(ctx, core.DeadFilter{ID: "a"}, 10)),
			expectCount("RetryDead by a filter for dropped ones", 0)(s.RetryDead(ctx, core.DeadFilter{Dropped: true}, 10)),
			expectCount("DropDead by a filter for dropped ones", 0)(s.DropDead(ctx, core.DeadFilter{Dropped: true}, "again", 10)))
	}), f.expect(ctx, "c"), f.expectDead(ctx, core.DeadFilter{Dropped: true}, "a"))
}

func checkDeadLimit(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, letters(5)...); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		return firstError(
			expectCount("RetryDead with limit 2", 2)(s.RetryDead(ctx, core.DeadFilter{}, 2)),
			f.expectDead(ctx, core.DeadFilter{}, "c", "d", "e"), f.expect(ctx, "a", "b"), f.expectBlocked(ctx, "c", "d", "e"),
			expectCount("DropDead with limit 2", 2)(s.DropDead(ctx, core.DeadFilter{}, "x", 2)),
			f.expectDead(ctx, core.DeadFilter{}, "e"), f.expectBlocked(ctx, "e"))
	})
}

func checkUnblock(ctx context.Context, f DialectFixture) error {
	records, err := f.buried(ctx, event("a"))
	if err != nil {
		return err
	}
	if err := f.commit(ctx, event("b")); err != nil {
		return err
	}
	topic, key := records[0].Message.Topic, records[0].Message.Key
	unblock := func(key string, want bool) func(s core.Session) error {
		return func(s core.Session) error {
			return expectBool(fmt.Sprintf("Unblock of %q", key), want)(s.Unblock(ctx, topic, key))
		}
	}
	return firstError(
		f.session(ctx, unblock("another", false)), f.expectBlocked(ctx, key),
		f.bumps(ctx, "Unblock", unblock(key, true)), f.expectBlocked(ctx),
		f.session(ctx, unblock(key, false)),
		f.expect(ctx, "b"), f.expectDead(ctx, core.DeadFilter{}, "a"))
}

func checkBlockedPages(ctx context.Context, f DialectFixture) error {
	records, err := f.buried(ctx,
		core.Message{ID: "5", Topic: "t", Key: "é"}, core.Message{ID: "4", Topic: "t", Key: "b"},
		core.Message{ID: "3", Topic: "t", Key: "a"}, core.Message{ID: "2", Topic: "t", Key: "B"},
		core.Message{ID: "1", Topic: "T", Key: "z"})
	if err != nil {
		return err
	}
	want := []string{"T z", "t B", "t a", "t b", "t é"}
	return f.session(ctx, func(s core.Session) error {
		topic, key := "", ""
		for len(want) > 0 {
			page, err := s.ListBlocked(ctx, topic, key, 2)
			if err != nil {
				return err
			}
			var got []string
			for _, k := range page {
				got = append(got, k.Topic+" "+k.Key)
				topic, key = k.Topic, k.Key
			}
			n := min(2, len(want))
			if err := same("the next two blocked keys are", got, want[:n]); err != nil {
				return err
			}
			want = want[n:]
			if len(want) == 0 && page[0].Position != records[0].Position {
				return fmt.Errorf("the key is blocked by position %d, want %d", page[0].Position, records[0].Position)
			}
			if age := time.Since(page[0].Since); age < -10*time.Minute || age > 10*time.Minute {
				return fmt.Errorf("the key was blocked now, and its Since is %v", page[0].Since)
			}
		}
		last, err := s.ListBlocked(ctx, topic, key, 2)
		if err == nil && len(last) > 0 {
			err = fmt.Errorf("behind the last blocked key come %v", last)
		}
		return err
	})
}
