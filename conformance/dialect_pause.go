package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var pauseChecks = []check[DialectFixture]{
	{"pause", "PauseTopic keeps the events of a topic in the outbox: no fetch returns them until ResumeTopic", checkPause},
	{"pause-reports", "PauseTopic reports whether that changed anything, ResumeTopic whether there was a pause, and both bump the generation", checkPauseReports},
	{"pause-listed", "a paused topic is listed among the blocked keys with an empty key and position 0, and not counted by Stats", checkPauseListed},
	{"pause-stays", "a pause is ended by ResumeTopic alone", checkPauseStays},
}

// setPaused pauses, or resumes, topic.
func (f DialectFixture) setPaused(ctx context.Context, topic string, pause, want bool) error {
	return f.session(ctx, func(s core.Session) error {
		if pause {
			return expectBool(fmt.Sprintf("PauseTopic(%q)", topic), want)(s.PauseTopic(ctx, topic))
		}
		return expectBool(fmt.Sprintf("ResumeTopic(%q)", topic), want)(s.ResumeTopic(ctx, topic))
	})
}

func checkPause(ctx context.Context, f DialectFixture) error {
	in := func(topic, id, key string) core.Message { return core.Message{ID: id, Topic: topic, Key: key} }
	records, err := f.stored(ctx,
		in("paused", "a", "1"), in("open", "b", "1"), in("paused", "c", ""), in("Paused", "d", "1"), in("paused ", "e", ""), in("paused", "f", "2"))
	if err != nil {
		return err
	}
	open := []string{"b", "d", "e", "later, open"}
	all := []string{"a", "b", "c", "d", "e", "f", "later, paused", "later, open"}
	// The same records, read as a gap and a tail.
	inGap := everything
	inGap.After = records[3].Position
	inGap.Gaps = []core.Range{{First: records[0].Position, Last: records[3].Position}}
	fetched := func(want []string) error {
		for _, request := range []core.FetchRequest{everything, inGap} {
			result, err := f.fetch(ctx, request)
			if err == nil {
				err = same(fmt.Sprintf("the fetch %+v returned", request), ids(result.Records), want)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return firstError(
		f.setPaused(ctx, "paused", true, true),
		f.commit(ctx, in("paused", "later, paused", "3"), in("open", "later, open", "3")),
		fetched(open),
		f.setPaused(ctx, "paused", false, true),
		fetched(all))
}

func checkPauseReports(ctx context.Context, f DialectFixture) error {
	pause := func(pause, want bool) func(s core.Session) error {
		return func(core.Session) error { return f.setPaused(ctx, "it's é ", pause, want) }
	}
	return firstError(
		f.session(ctx, pause(false, false)),
		f.bumps(ctx, "PauseTopic", pause(true, true)),
		f.session(ctx, pause(true, false)),
		f.setPaused(ctx, "another", false, false),
		f.bumps(ctx, "ResumeTopic", pause(false, true)),
		f.session(ctx, pause(false, false)))
}

func checkPauseListed(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, event("a")); err != nil { // blocks the key 42 of orders
		return err
	}
	if err := firstError(f.setPaused(ctx, "orders", true, true), f.setPaused(ctx, "another", true, true)); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		all, err := s.ListBlocked(ctx, "", "", 10)
		if err != nil {
			return err
		}
		var got []string
		for _, b := range all {
			got = append(got, b.Topic+"/"+b.Key)
			if age := time.Since(b.Since); age < -10*time.Minute || age > 10*time.Minute {
				return fmt.Errorf("%s/%s was blocked now, and its Since is %v", b.Topic, b.Key, b.Since)
			}
		}
		if err := same("paused topics and blocked keys are", got, []string{"another/", "orders/", "orders/42"}); err != nil {
			return err
		}
		if all[0].Position != 0 || all[1].Position != 0 {
			return fmt.Errorf("the paused topics have the positions %d and %d, want 0", all[0].Position, all[1].Position)
		}
		behind, err := s.ListBlocked(ctx, "orders", "", 10)
		if err == nil && (len(behind) != 1 || behind[0].Key != "42") {
			err = fmt.Errorf("behind the paused topic are listed %+v, want its blocked key", behind)
		}
		if err != nil {
			return err
		}
		stats, err := s.Stats(ctx)
		if err == nil && stats.BlockedKeys != 1 {
			err = fmt.Errorf("with one blocked key and two paused topics BlockedKeys is %d", stats.BlockedKeys)
		}
		return err
	})
}

func checkPauseStays(ctx context.Context, f DialectFixture) error {
	if err := f.setPaused(ctx, "orders", true, true); err != nil {
		return err
	}
	records, err := f.buriedWhilePaused(ctx, keyed("no key", ""), keyed("retried", "1"), keyed("dropped", "2"))
	if err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		err := firstError(
			expectBool("Unblock of the empty key", false)(s.Unblock(ctx, "orders", "")),
			expectBool("Unblock of another key", false)(s.Unblock(ctx, "orders", "x")),
			expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{ID: "no key"}, 10)),
			expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{ID: "retried"}, 10)),
			expectCount("DropDead", 1)(s.DropDead(ctx, core.DeadFilter{ID: "dropped"}, "x", 10)),
			f.expect(ctx),
			s.Acknowledge(ctx, []core.Ref{records[0].Ref()}),
			f.commit(ctx, keyed("later", "3")),
			f.expect(ctx),
			f.setPaused(ctx, "orders", false, true))
		return firstError(err, f.expect(ctx, "retried", "later"))
	})
}

// buriedWhilePaused is buried for messages whose topic is paused already, so that nothing fetches them.
func (f DialectFixture) buriedWhilePaused(ctx context.Context, msgs ...core.Message) ([]core.Record, error) {
	topic := msgs[0].Topic
	if err := f.setPaused(ctx, topic, false, true); err != nil {
		return nil, err
	}
	records, err := f.buried(ctx, msgs...)
	return records, firstError(err, f.setPaused(ctx, topic, true, true))
}
