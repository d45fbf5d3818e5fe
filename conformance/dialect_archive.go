package conformance

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

var archiveChecks = []check[DialectFixture]{
	{"archive-acknowledge", "Acknowledge moves what matches both position and id to the archive, complete, and nothing else, once", checkArchiveAcknowledge},
	{"archive-filter", "a filter selects the archived events that match every field that is set, bytewise", checkArchiveFilter},
	{"archive-pages", "ListArchived returns the archived events that come after (position, id), ascending, at most limit", checkArchivePages},
	{"replay-copies", "Replay copies archived events into the outbox: with their ids, at new positions, in their old order, without attempts", checkReplayCopies},
	{"replay-keeps", "the archive keeps what was replayed, and keeps it again when it was delivered again", checkReplayKeeps},
	{"replay-pages", "Replay copies the first limit events that match filter and come after after, and returns how many, and the last one's name", checkReplayPages},
	{"purge-archive", "Purge removes archived events that were delivered at least so long ago, at most limit, oldest first, and returns how many", checkPurgeArchive},
	{"purge-dropped", "Purge removes dead letters that were dropped at least so long ago, and none that was not dropped", checkPurgeDropped},
}

// archive runs use with a session of the dialect that keeps what is delivered.
func (f DialectFixture) archive(ctx context.Context, use func(s core.Session, archive core.ArchiveStore) error) error {
	f.Dialect = f.Archiving
	return f.session(ctx, func(s core.Session) error {
		store, ok := core.Ability[core.ArchiveStore](s)
		if !ok {
			return fmt.Errorf("the session of the archiving dialect, a %T, is not an ArchiveStore", s)
		}
		return use(s, store)
	})
}

// archived enqueues msgs and delivers them all.
func (f DialectFixture) archived(ctx context.Context, msgs ...core.Message) ([]core.Record, error) {
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return nil, err
	}
	var refs []core.Ref
	for _, r := range records {
		refs = append(refs, r.Ref())
	}
	return records, f.archive(ctx, func(s core.Session, _ core.ArchiveStore) error { return s.Acknowledge(ctx, refs) })
}

// expectArchived compares the ids of the archived events that match filter.
func (f DialectFixture) expectArchived(ctx context.Context, filter core.ArchiveFilter, want ...string) error {
	return f.archive(ctx, func(_ core.Session, archive core.ArchiveStore) error {
		events, err := archive.ListArchived(ctx, filter, core.Ref{}, 1000)
		if err != nil {
			return err
		}
		return same(fmt.Sprintf("the archived events that match %+v are", filter), archivedIDs(events), want)
	})
}

func archivedIDs(events []core.ArchivedEvent) []string {
	var list []string
	for _, e := range events {
		list = append(list, e.Message.ID)
	}
	return list
}

func checkArchiveAcknowledge(ctx context.Context, f DialectFixture) error {
	const awkward = `é漢😀 'single' "double" \back\ {a,b} NULL $1 ? :n %s`
	msgs := []core.Message{
		event("a"),
		{ID: awkward, Topic: awkward, Key: awkward, Headers: map[string]string{awkward: awkward}, Payload: []byte{0, 255, '\''}},
		longest("longest "), event("b"), event("c"),
	}
	records, err := f.stored(ctx, msgs...)
	if err != nil {
		return err
	}
	first, second, b := records[1].Ref(), records[2].Ref(), records[3].Ref()
	return f.archive(ctx, func(s core.Session, archive core.ArchiveStore) error {
		refs := []core.Ref{first, second, first, {Position: b.Position, ID: "another"}, {Position: b.Position + 1_000_000, ID: "b"}}
		if err := firstError(s.Acknowledge(ctx, refs), s.Acknowledge(ctx, refs), f.expect(ctx, "a", "b", "c")); err != nil {
			return err
		}
		events, err := archive.ListArchived(ctx, core.ArchiveFilter{}, core.Ref{}, 10)
		if err != nil || len(events) != 2 {
			return fmt.Errorf("the archive holds %v, want two events (%v)", archivedIDs(events), err)
		}
		for i, got := range events {
			if err := archivedAs(got, msgs[i+1], records[i+1]); err != nil {
				return err
			}
		}
		return nil
	})
}

// archivedAs compares an archived event with what was enqueued, and its record.
func archivedAs(got core.ArchivedEvent, msg core.Message, want core.Record) error {
	m := got.Message
	if got.Ref() != want.Ref() || m.Topic != msg.Topic || m.Key != msg.Key || !maps.Equal(m.Headers, msg.Headers) || !bytes.Equal(m.Payload, msg.Payload) {
		return fmt.Errorf("the archived event is %.400v, want %.400v at position %d", m, msg, want.Position)
	}
	if !m.EnqueuedAt.Equal(want.Message.EnqueuedAt) {
		return fmt.Errorf("the archived event's EnqueuedAt is %v, want %v", m.EnqueuedAt, want.Message.EnqueuedAt)
	}
	if age := time.Since(got.DeliveredAt); age < -10*time.Minute || age > 10*time.Minute {
		return fmt.Errorf("the event was delivered now, and its DeliveredAt is %v", got.DeliveredAt)
	}
	return nil
}

func checkArchiveFilter(ctx context.Context, f DialectFixture) error {
	_, err := f.archived(ctx,
		core.Message{ID: "a", Topic: "t", Key: "1"}, core.Message{ID: "b", Topic: "t", Key: "2"},
		core.Message{ID: "c", Topic: "T", Key: "1"}, core.Message{ID: "d", Topic: "t ", Key: "1"})
	if err != nil {
		return err
	}
	// The times are told apart by an hour: the clocks need not agree.
	old := event("old")
	old.NotBefore = time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := firstError(f.commit(ctx, old), f.promote(ctx, 1, 1)); err != nil {
		return err
	}
	records, err := f.all(ctx)
	if err != nil {
		return err
	}
	err = f.archive(ctx, func(s core.Session, _ core.ArchiveStore) error {
		return s.Acknowledge(ctx, []core.Ref{records[0].Ref()})
	})
	if err != nil {
		return err
	}
	between := old.NotBefore.Add(30 * time.Minute)
	for _, tt := range []struct {
		filter core.ArchiveFilter
		want   []string
	}{
		{core.ArchiveFilter{}, []string{"a", "b", "c", "d", "old"}},
		{core.ArchiveFilter{ID: "b"}, []string{"b"}},
		{core.ArchiveFilter{ID: "B"}, nil},
		{core.ArchiveFilter{Topic: "t"}, []string{"a", "b"}},
		{core.ArchiveFilter{Key: "1"}, []string{"a", "c", "d"}},
		{core.ArchiveFilter{Topic: "t", Key: "1"}, []string{"a"}},
		{core.ArchiveFilter{From: between}, []string{"a", "b", "c", "d"}},
		{core.ArchiveFilter{To: between}, []string{"old"}},
		{core.ArchiveFilter{From: old.NotBefore, To: old.NotBefore.Add(time.Second)}, []string{"old"}},
		{core.ArchiveFilter{From: old.NotBefore.Add(-time.Second), To: old.NotBefore}, nil},
		{core.ArchiveFilter{From: between, Key: "2"}, []string{"b"}},
	} {
		if err := f.expectArchived(ctx, tt.filter, tt.want...); err != nil {
			return err
		}
	}
	return nil
}

func checkArchivePages(ctx context.Context, f DialectFixture) error {
	records, err := f.archived(ctx, letters(5)...)
	if err != nil {
		return err
	}
	return f.archive(ctx, func(_ core.Session, archive core.ArchiveStore) error {
		for _, tt := range []struct {
			after core.Ref
			limit int
			want  []string
		}{
			{core.Ref{}, 2, []string{"a", "b"}},
			{records[1].Ref(), 2, []string{"c", "d"}},
			{records[3].Ref(), 2, []string{"e"}},
			{records[4].Ref(), 2, nil},
			{core.Ref{Position: records[2].Position, ID: "D"}, 2, []string{"c", "d"}}, // bytewise, before c
			{core.Ref{Position: records[2].Position, ID: "é"}, 2, []string{"d", "e"}},
		} {
			page, err := archive.ListArchived(ctx, core.ArchiveFilter{}, tt.after, tt.limit)
			if err != nil {
				return err
			}
			if err := same(fmt.Sprintf("%d archived events after %+v are", tt.limit, tt.after), archivedIDs(page), tt.want); err != nil {
				return err
			}
		}
		return nil
	})
}

func checkReplayCopies(ctx context.Context, f DialectFixture) error {
	records, err := f.stored(ctx, core.Message{ID: "a", Topic: "t", Key: "k", Headers: map[string]string{"h": "é"}, Payload: []byte{0, 255}}, event("b"))
	if err != nil {
		return err
	}
	// One that had failed before it was delivered.
	if _, err := f.failed(ctx, core.Failure{Ref: records[0].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "x"}); err != nil {
		return err
	}
	last, err := f.stored(ctx, event("last"))
	if err != nil {
		return err
	}
	return f.archive(ctx, func(s core.Session, archive core.ArchiveStore) error {
		err := s.Acknowledge(ctx, []core.Ref{records[1].Ref(), records[0].Ref()})
		if err != nil {
			return err
		}
		if _, _, err := archive.Replay(ctx, core.ArchiveFilter{}, core.Ref{}, 10); err != nil {
			return err
		}
		all, err := f.all(ctx)
		if err != nil {
			return err
		}
		if err := same("after a replay the outbox holds", ids(all), []string{"last", "a", "b"}); err != nil {
			return err
		}
		for i, r := range all[1:] {
			m, want := r.Message, records[i].Message
			if r.Position <= last[0].Position {
				return fmt.Errorf("%q was replayed at position %d, and %d was taken before", m.ID, r.Position, last[0].Position)
			}
			if m.Topic != want.Topic || m.Key != want.Key || !maps.Equal(m.Headers, want.Headers) || !bytes.Equal(m.Payload, want.Payload) {
				return fmt.Errorf("the replayed message is %.400v, want %.400v", m, want)
			}
			if r.Attempts != 0 || r.RetryIn > 0 {
				return fmt.Errorf("the replayed message %q has %d attempts and is due in %v", m.ID, r.Attempts, r.RetryIn)
			}
		}
		return nil
	})
}

func checkReplayKeeps(ctx context.Context, f DialectFixture) error {
	if _, err := f.archived(ctx, event("a")); err != nil {
		return err
	}
	return f.archive(ctx, func(s core.Session, archive core.ArchiveStore) error {
		if _, _, err := archive.Replay(ctx, core.ArchiveFilter{}, core.Ref{}, 10); err != nil {
			return err
		}
		if err := f.expectArchived(ctx, core.ArchiveFilter{}, "a"); err != nil {
			return err
		}
		again, err := f.all(ctx)
		if err != nil || len(again) != 1 {
			return fmt.Errorf("after a replay of one event the outbox holds %q (%v)", ids(again), err)
		}
		return firstError(s.Acknowledge(ctx, []core.Ref{again[0].Ref()}), f.expect(ctx), f.expectArchived(ctx, core.ArchiveFilter{}, "a", "a"))
	})
}

func checkReplayPages(ctx context.Context, f DialectFixture) error {
	records, err := f.archived(ctx, append(letters(5), core.Message{ID: "other", Topic: "another"})...)
	if err != nil {
		return err
	}
	return f.archive(ctx, func(_ core.Session, archive core.ArchiveStore) error {
		after := core.Ref{}
		for _, want := range []struct {
			n    int
			last core.Ref
		}{{2, records[1].Ref()}, {2, records[3].Ref()}, {1, records[4].Ref()}} {
			n, last, err := archive.Replay(ctx, core.ArchiveFilter{Topic: "orders"}, after, 2)
			if err != nil {
				return err
			}
			if n != want.n || last != want.last {
				return fmt.Errorf("Replay of two behind %+v returned %d and %+v, want %d and %+v", after, n, last, want.n, want.last)
			}
			after = last
		}
		// What was replayed is behind none of it, and is not in the archive: a replay does not feed on itself.
		n, _, err := archive.Replay(ctx, core.ArchiveFilter{Topic: "orders"}, after, 2)
		if err == nil && n != 0 {
			err = fmt.Errorf("Replay behind the last event returned %d", n)
		}
		return firstError(err, f.expect(ctx, "a", "b", "c", "d", "e"))
	})
}

// purge purges what is older than an age, and expects so many to be removed.
func (f DialectFixture) purge(ctx context.Context, olderThan time.Duration, limit, want int) error {
	return f.archive(ctx, func(_ core.Session, archive core.ArchiveStore) error {
		return expectCount(fmt.Sprintf("Purge(%v, %d)", olderThan, limit), want)(archive.Purge(ctx, olderThan, limit))
	})
}

func checkPurgeArchive(ctx context.Context, f DialectFixture) error {
	// Delivered in another order than enqueued: the oldest are those that were delivered first.
	records, err := f.stored(ctx, letters(4)...)
	if err != nil {
		return err
	}
	for _, i := range []int{2, 0, 3, 1} {
		err := f.archive(ctx, func(s core.Session, _ core.ArchiveStore) error {
			return s.Acknowledge(ctx, []core.Ref{records[i].Ref()})
		})
		if err != nil {
			return err
		}
		if err := f.tick(ctx); err != nil {
			return err
		}
	}
	err = firstError(
		f.purge(ctx, time.Hour, 10, 0), f.expectArchived(ctx, core.ArchiveFilter{}, "a", "b", "c", "d"),
		f.purge(ctx, 0, 1, 1), f.expectArchived(ctx, core.ArchiveFilter{}, "a", "b", "d"),
		f.purge(ctx, 0, 2, 2), f.expectArchived(ctx, core.ArchiveFilter{}, "b"),
		f.commit(ctx, event("pending")))
	if err != nil {
		return err
	}
	err = eventually(ctx, "what was delivered does not get older than 100 ms", func() (bool, error) {
		removed := 0
		err := f.archive(ctx, func(_ core.Session, archive core.ArchiveStore) (err error) {
			removed, err = archive.Purge(ctx, 100*time.Millisecond, 10)
			return err
		})
		return removed == 1, err
	})
	return firstError(err, f.expectArchived(ctx, core.ArchiveFilter{}), f.expect(ctx, "pending"))
}

// tick lets the database's clock go on by more than its times are kept in.
func (f DialectFixture) tick(ctx context.Context) error {
	select {
	case <-time.After(5 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func checkPurgeDropped(ctx context.Context, f DialectFixture) error {
	if _, err := f.buried(ctx, letters(4)...); err != nil {
		return err
	}
	drop := func(id string) error {
		return f.session(ctx, func(s core.Session) error {
			return expectCount("DropDead", 1)(s.DropDead(ctx, core.DeadFilter{ID: id}, "x", 1))
		})
	}
	dropped := core.DeadFilter{Dropped: true}
	return firstError(
		drop("c"), f.tick(ctx), drop("a"), f.tick(ctx), drop("d"),
		f.purge(ctx, time.Hour, 10, 0), f.expectDead(ctx, dropped, "a", "c", "d"),
		f.purge(ctx, 0, 1, 1), f.expectDead(ctx, dropped, "a", "d"),
		f.purge(ctx, 0, 10, 2), f.expectDead(ctx, dropped),
		f.expectDead(ctx, core.DeadFilter{}, "b"), f.expectBlocked(ctx, "b"))
}
