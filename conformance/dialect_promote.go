package conformance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var promoteChecks = []check[DialectFixture]{
	{"delayed-atomic", "a delayed event exists if and only if the transaction that enqueued it committed", checkDelayedAtomic},
	{"promote-due", "a delayed event is not in the outbox before it was promoted, nor promoted before it is due by the database's clock", checkPromoteDue},
	{"promote-order", "delayed events are moved in (due time, enqueue) order, at most limit, and take their places behind what is there", checkPromoteOrder},
	{"promote-fenced", "nothing is moved, and Fenced is set, when the lease's epoch is not the caller's", checkPromoteFenced},
	{"promote-generation", "promotion bumps the generation", checkPromoteGeneration},
	{"promote-time", "a moved event's EnqueuedAt is its due time", checkPromoteTime},
	{"promote-complete", "a promoted message is fetched as it was enqueued", checkPromoteComplete},
}

// delayed is a message that is due in, or was due before, d.
func delayed(id string, d time.Duration) core.Message {
	m := keyed(id, id)
	m.NotBefore = time.Now().Add(d)
	return m
}

// own takes the lease for use, and returns its epoch.
func own(ctx context.Context, s core.Session) (int64, error) {
	seen, err := s.ReadLease(ctx)
	if err != nil {
		return 0, err
	}
	ok, err := s.TakeLease(ctx, seen, "owner", time.Hour)
	if err == nil && !ok {
		err = fmt.Errorf("the lease as it was seen, %+v, could not be taken", seen)
	}
	return seen.Epoch + 1, err
}

// promote promotes under a new lease, and expects so many to be moved, in as many calls as the dialect takes for them: on a slow server
// one may move fewer than it could.
func (f DialectFixture) promote(ctx context.Context, limit, want int) error {
	return f.session(ctx, func(s core.Session) error {
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		for {
			got, err := s.Promote(ctx, epoch, limit)
			if err != nil {
				return err
			}
			if got.Fenced || got.Moved > want || got.Moved < min(want, 1) {
				return fmt.Errorf("Promote with limit %d returned %+v, want %d moved", limit, got, want)
			}
			limit, want = limit-got.Moved, want-got.Moved
			if want == 0 {
				return nil
			}
		}
	})
}

func checkDelayedAtomic(ctx context.Context, f DialectFixture) error {
	if err := f.enqueue(ctx, Tx.Rollback, delayed("rolled back", -time.Hour)); err != nil {
		return err
	}
	if err := f.commit(ctx, delayed("committed", -time.Hour)); err != nil {
		return err
	}
	return firstError(f.promote(ctx, 10, 1), f.expect(ctx, "committed"))
}

func checkPromoteDue(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, delayed("much later", time.Hour), delayed("due", -time.Hour)); err != nil {
		return err
	}
	if err := firstError(f.expect(ctx), f.promote(ctx, 10, 1), f.expect(ctx, "due")); err != nil {
		return err
	}
	soon := delayed("soon", 300*time.Millisecond)
	soon.NotBefore = soon.NotBefore.Truncate(time.Millisecond)
	if err := f.commit(ctx, soon); err != nil {
		return err
	}
	return f.session(ctx, func(s core.Session) error {
		epoch, err := own(ctx, s)
		if err != nil {
			return err
		}
		err = eventually(ctx, "a delayed event whose time has come is not moved", func() (bool, error) {
			p, err := s.Promote(ctx, epoch, 10)
			return p.Moved > 0, err
		})
		if err != nil {
			return err
		}
		// The database's clock, which need not be ours, is read from a record that is enqueued after the promotion.
		after, err := f.stored(ctx, event("after"))
		if err == nil && after[0].Message.EnqueuedAt.Before(soon.NotBefore) {
			err = fmt.Errorf("an event that is due at %v was moved before %v", soon.NotBefore, after[0].Message.EnqueuedAt)
		}
		return firstError(err, f.expect(ctx, "due", "soon", "after"))
	})
}

func checkPromoteOrder(ctx context.Context, f DialectFixture) error {
	base := time.Now().Add(-time.Hour)
	at := func(id string, seconds int) core.Message {
		m := event(id)
		m.NotBefore = base.Add(time.Duration(seconds) * time.Second)
		return m
	}
	if err := f.commit(ctx, at("3rd", 2), at("1st", 1), event("there before")); err != nil {
		return err
	}
	if err := f.commit(ctx, at("5th", 3), at("4th", 2), at("2nd", 1)); err != nil {
		return err
	}
	want := []string{"there before", "1st", "2nd", "3rd", "4th", "5th"}
	return firstError(
		f.promote(ctx, 2, 2), f.expect(ctx, want[:3]...),
		f.promote(ctx, 10, 3), f.expect(ctx, want...),
		f.promote(ctx, 10, 0), f.expect(ctx, want...))
}

func checkPromoteFenced(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, delayed("a", -time.Hour)); err != nil {
		return err
	}
	err := f.sessions(ctx, func(old, young core.Session) error {
		epoch, err := own(ctx, old)
		if err != nil {
			return err
		}
		if _, err := own(ctx, young); err != nil {
			return err
		}
		for _, wrong := range []int64{epoch, epoch + 2, 0} {
			got, err := old.Promote(ctx, wrong, 10)
			if err == nil && got != (core.Promotion{Fenced: true}) {
				err = fmt.Errorf("under the lease of epoch %d, Promote with epoch %d returned %+v, want Fenced", epoch+1, wrong, got)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return firstError(err, f.expect(ctx), f.promote(ctx, 10, 1), f.expect(ctx, "a"))
}

func checkPromoteGeneration(ctx context.Context, f DialectFixture) error {
	if err := f.commit(ctx, delayed("a", -time.Hour)); err != nil {
		return err
	}
	return f.bumps(ctx, "a promotion", func(s core.Session) error { return f.promote(ctx, 10, 1) })
}

func checkPromoteComplete(ctx context.Context, f DialectFixture) error {
	const awkward = `é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`
	msgs := []core.Message{
		{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward}, Payload: []byte{0, 255, '\''}},
		longest("longest "),
	}
	for i := range msgs {
		msgs[i].NotBefore = time.Now().Add(time.Duration(i-2) * time.Hour)
	}
	if err := firstError(f.commit(ctx, msgs...), f.promote(ctx, len(msgs), len(msgs))); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil || len(records) != len(msgs) {
		return fmt.Errorf("after a promotion the outbox holds %v, want %d records (%v)", records, len(msgs), err)
	}
	for i, want := range msgs {
		got := records[i].Message
		if got.ID != want.ID || got.Topic != want.Topic || got.Key != want.Key || !maps.Equal(got.Headers, want.Headers) || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("the promoted message is %.400v, want %.400v", got, want)
		}
		if records[i].Attempts != 0 || records[i].RetryIn > 0 {
			return fmt.Errorf("the promoted message has %d attempts and is due in %v", records[i].Attempts, records[i].RetryIn)
		}
	}
	return nil
}

func checkPromoteTime(ctx context.Context, f DialectFixture) error {
	due := time.Now().Add(-time.Hour).Truncate(time.Second) // every database keeps whole seconds as they are
	m := event("a")
	m.NotBefore = due
	if err := firstError(f.commit(ctx, m), f.promote(ctx, 1, 1)); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil || len(records) != 1 {
		return fmt.Errorf("after a promotion the outbox holds %v, want one record (%v)", records, err)
	}
	if got := records[0].Message.EnqueuedAt; !got.Equal(due) {
		return fmt.Errorf("an event that was due at %v has the EnqueuedAt %v", due, got)
	}
	return nil
}
