package conformance

import (
	"context"
	"errors"
	"maps"
	"strings"
	"unicode/utf8"

	"github.com/lockstep-go/lockstep/core"
)

// cut is s as a column keeps it that is too short.
func cut(s string) string { return s[:min(191, len(s))] }

// limitMutants are dialects that are right as long as nothing is long, or many, or no text.
var limitMutants = map[string]mutant{
	"cuts ids": {changing(func(m *core.Message) { m.ID = cut(m.ID) }),
		caught{"round-trip": "fetched {longest", "promote-complete": "the promoted message is {longest"}},
	"cuts topics": {changing(func(m *core.Message) { m.Topic = cut(m.Topic) }),
		caught{"round-trip": "fetched {longest", "promote-complete": "the promoted message is {longest"}},
	"cuts keys": {changing(func(m *core.Message) { m.Key = cut(m.Key) }),
		caught{
			"round-trip":          "fetched {longest",
			"promote-complete":    "the promoted message is {longest",
			"bury-moves":          "the dead letter's message is {longest",
			"archive-acknowledge": "the archived event is {longest"},
	},
	"folds the names of headers": {changing(func(m *core.Message) {
		folded := map[string]string{}
		for name, value := range m.Headers {
			folded[strings.ToLower(name)] = value
		}
		m.Headers = folded
	}),
		caught{
			"round-trip":       `fetched {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`,
			"promote-complete": `the promoted message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single' "double"`,
			"bury-moves":       `the dead letter's message is {é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s é漢😀 'single'`},
	},
	"keeps no headers beyond 8 KiB": {changing(func(m *core.Message) {
		m.Headers = maps.Clone(m.Headers)
		maps.DeleteFunc(m.Headers, func(_, value string) bool { return len(value) > 8<<10 })
	}),
		caught{
			"round-trip":       "fetched {longest",
			"promote-complete": "the promoted message is {longest",
			"bury-moves":       "the dead letter's message is {longest"},
	},
	"cuts the keys of dead letters": {lettered(func(l *core.DeadLetter) { l.Message.Key = cut(l.Message.Key) }),
		caught{"bury-moves": "the dead letter's message is {longest"}},
	"cuts the topics of archived events": {archivedRow(func(r *memoryRow) { r.message.Topic = cut(r.message.Topic) }),
		caught{"archive-acknowledge": "the archived event is {longest"}},
	"cuts the suspect's id": {alteredDialect{session: altered{suspect: func(ctx context.Context, s *memorySession, holder string, epoch int64, suspect core.Ref) (bool, error) {
		suspect.ID = cut(suspect.ID)
		return s.MarkSuspect(ctx, holder, epoch, suspect)
	}}}, caught{"suspect-mark": "after the mark the suspect is {Position:1099511627776 ID:it's é漢😀"}},
	"acknowledges short ids alone": {acknowledging(func(_ *Memory, ref *core.Ref) { ref.ID = cut(ref.ID) }),
		caught{"acknowledge-both": `the outbox holds ["b" "c" "longest`, "archive-acknowledge": `the outbox holds ["a" "longest`}},

	"reads 100 gaps at most": {asking(func(r *core.FetchRequest) { r.Gaps = r.Gaps[:min(100, len(r.Gaps))] }),
		caught{"fetch-requested": `a fetch with 1000 gaps returned ["1" "3" "5" "7" "9" "11" "13" "15" "17" "19" "21" "23" "25" "27"`}},
	"looks at 50 gaps at most": {alteredDialect{session: altered{resolve: func(ctx context.Context, s *memorySession, gaps []core.Gap) error {
		return s.ResolveGaps(ctx, gaps[:min(50, len(gaps))])
	}}}, caught{"gaps-dead": "a gap that nobody can fill does not become dead: not within 20s"}},
	"notes 100 failures at most": {alteredDialect{session: altered{fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
		return s.Fail(ctx, failures[:min(100, len(failures))])
	}}}, caught{"fail-noted": `of 250 failures in one call, to be retried in an hour, that of "event 100" left it with 0 attempts`}},
	"buries ten at most": {alteredDialect{session: altered{bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
		return s.Bury(ctx, burials[:min(10, len(burials))])
	}}}, caught{"bury-moves": `the outbox holds ["b" "event 10" "event 11" "event 12" "event 13" "event 14" "event 15" "event 16"`}},
	"retries 100 at most": {retrying(func(_ *Memory, _ *core.DeadFilter, limit *int) { *limit = min(100, *limit) }, nil),
		caught{"bury-moves": "RetryDead of all of one call returned 100, want 250"}},

	"refuses a failure whose cause has a NUL": {refusingCauses(func(cause string) bool { return strings.Contains(cause, "\x00") }),
		caught{"fail-noted": "invalid byte sequence", "bury-moves": "invalid byte sequence"}},
	"refuses a failure whose cause is no UTF-8": {refusingCauses(func(cause string) bool { return !utf8.ValidString(cause) }),
		caught{"fail-noted": "invalid byte sequence", "bury-moves": "invalid byte sequence"}},
	"refuses a failure whose cause is long": {refusingCauses(func(cause string) bool { return len(cause) > 4<<10 }),
		caught{"fail-noted": "invalid byte sequence", "bury-moves": "invalid byte sequence"}},
	"keeps 255 bytes of a cause": {burying(func(_ *Memory, b *core.Burial) { b.Cause = b.Cause[:min(255, len(b.Cause))] }),
		caught{"bury-moves": `the dead letter's cause is "`}},
	"keeps of a cause what stands before a NUL": {burying(func(_ *Memory, b *core.Burial) { b.Cause, _, _ = strings.Cut(b.Cause, "\x00") }),
		caught{"bury-moves": `the dead letter's cause is "before ", want what text can hold of "before \x00 after", the first KiB`}},
}

// refusingCauses is a dialect that has errors for some causes.
func refusingCauses(refused func(cause string) bool) alteredDialect {
	err := errors.New("invalid byte sequence")
	return alteredDialect{session: altered{
		fail: func(ctx context.Context, s *memorySession, failures []core.Failure) error {
			for _, f := range failures {
				if refused(f.Cause) {
					return err
				}
			}
			return s.Fail(ctx, failures)
		},
		bury: func(ctx context.Context, s *memorySession, burials []core.Burial) error {
			for _, b := range burials {
				if refused(b.Cause) {
					return err
				}
			}
			return s.Bury(ctx, burials)
		},
	}}
}
