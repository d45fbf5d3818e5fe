package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// bumps runs act, and expects another generation afterwards than before.
func (f DialectFixture) bumps(ctx context.Context, what string, act func(s core.Session) error) error {
	before, err := f.fetch(ctx, everything)
	if err != nil {
		return err
	}
	if err := f.session(ctx, act); err != nil {
		return err
	}
	after, err := f.fetch(ctx, everything)
	if err != nil {
		return err
	}
	if before.Generation == after.Generation {
		return fmt.Errorf("after %s the generation still is %d", what, after.Generation)
	}
	return nil
}

// appearance is a way in which a record comes to be fetched, or not to be any more, that a relay learns of by the generation.
type appearance struct {
	what    string
	prepare func(ctx context.Context, f DialectFixture, ids []string) error
	act     func(ctx context.Context, operator core.Session, id string) error // on one of ids after the other
	hides   bool                                                              // the record is fetched until then, and not afterwards
}

var appearances = []appearance{
	{what: "RetryDead of a message with a key", prepare: buriedWithKey, act: retryOne},
	{what: "RetryDead of a message without a key", prepare: buriedWithoutKey, act: retryOne},
	{what: "DropDead of what blocks its key", prepare: behindDeadLetters, act: func(ctx context.Context, s core.Session, id string) error {
		return expectCount("DropDead", 1)(s.DropDead(ctx, core.DeadFilter{ID: "before " + id}, "x", 1))
	}},
	{what: "Unblock of its key", prepare: behindDeadLetters, act: func(ctx context.Context, s core.Session, id string) error {
		return expectBool("Unblock", true)(s.Unblock(ctx, "orders", id))
	}},
	{what: "its promotion", prepare: func(ctx context.Context, f DialectFixture, ids []string) error {
		return f.commit(ctx, messagesOf(ids, func(id string) core.Message { return delayed(id, -time.Hour) })...)
	}, act: func(ctx context.Context, s core.Session, _ string) error {
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		_, err = s.Promote(ctx, epoch, 1)
		return err
	}},
	{what: "PauseTopic", hides: true, prepare: func(ctx context.Context, f DialectFixture, ids []string) error {
		return f.commit(ctx, messagesOf(ids, ofTopic)...)
	}, act: func(ctx context.Context, s core.Session, id string) error {
		return expectBool("PauseTopic", true)(s.PauseTopic(ctx, id))
	}},
	{what: "ResumeTopic", prepare: func(ctx context.Context, f DialectFixture, ids []string) error {
		err := f.commit(ctx, messagesOf(ids, ofTopic)...)
		for _, id := range ids {
			err = firstError(err, f.setPaused(ctx, id, true, true))
		}
		return err
	}, act: func(ctx context.Context, s core.Session, id string) error {
		return expectBool("ResumeTopic", true)(s.ResumeTopic(ctx, id))
	}},
}

// messagesOf makes a message for each of ids.
func messagesOf(ids []string, message func(id string) core.Message) []core.Message {
	msgs := make([]core.Message, len(ids))
	for i, id := range ids {
		msgs[i] = message(id)
	}
	return msgs
}

// ofTopic is a message of a topic of its own.
func ofTopic(id string) core.Message { return core.Message{ID: id, Topic: id} }

// ofKey is a message of a key of its own.
func ofKey(id string) core.Message { return keyed(id, id) }

func buriedWithKey(ctx context.Context, f DialectFixture, ids []string) error {
	_, err := f.buried(ctx, messagesOf(ids, ofKey)...)
	return err
}

func buriedWithoutKey(ctx context.Context, f DialectFixture, ids []string) error {
	_, err := f.buried(ctx, messagesOf(ids, func(id string) core.Message { return keyed(id, "") })...)
	return err
}

func behindDeadLetters(ctx context.Context, f DialectFixture, ids []string) error {
	_, err := f.buried(ctx, messagesOf(ids, func(id string) core.Message { return keyed("before "+id, id) })...)
	if err != nil {
		return err
	}
	return f.commit(ctx, messagesOf(ids, ofKey)...)
}

func retryOne(ctx context.Context, s core.Session, id string) error {
	return expectCount("RetryDead", 1)(s.RetryDead(ctx, core.DeadFilter{ID: id}, 1))
}

// generationRounds is how often each appearance is watched: in some of them a reader looks between two transactions where
// there are two.
const generationRounds = 6

// A relay that saw the generation before its record, or the record before the generation, would not look for it again: a
// process that dies between two transactions leaves it so.
func checkFetchGeneration(ctx context.Context, f DialectFixture) error {
	return f.sessions(ctx, func(reader, operator core.Session) error {
		for i, a := range appearances {
			ids := make([]string, generationRounds)
			for round := range ids {
				ids[round] = fmt.Sprintf("%d-%d", i, round)
			}
			if err := a.prepare(ctx, f, ids); err != nil {
				return err
			}
			for _, id := range ids {
				if err := a.watch(ctx, reader, operator, id); err != nil {
					return fmt.Errorf("%s: %w", a.what, err)
				}
			}
		}
		return nil
	})
}

// watch has reader fetch without rest while operator acts. In one generation a record is there, or it is not.
func (a appearance) watch(ctx context.Context, reader, operator core.Session, id string) error {
	fetched := map[int64]bool{} // by generation
	look := func() (bool, error) {
		result, err := reader.Fetch(ctx, everything)
		if err != nil {
			return false, err
		}
		is := contains(result.Records, id)
		if was, known := fetched[result.Generation]; known && was != is {
			return is, fmt.Errorf("in the generation %d a record was fetched: %v, and in the same one later: %v", result.Generation, was, is)
		}
		fetched[result.Generation] = is
		return is, nil
	}
	is, err := look()
	if err != nil {
		return err
	}
	if is != a.hides {
		return fmt.Errorf("before it a record is fetched: %v, want %v", is, a.hides)
	}
	acted := make(chan error, 1)
	go func() { acted <- a.act(ctx, operator, id) }()
	err = polled(ctx, inTheEnd, 20*time.Microsecond, "the record is fetched as it was before", func() (bool, error) {
		is, err := look()
		return is != a.hides, err
	})
	return firstError(<-acted, err)
}
