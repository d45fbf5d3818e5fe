package sqlite_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

var everything = core.FetchRequest{Limit: 1000, MaxBytes: 1 << 30}

// expectFetch compares the ids that a fetch returns, and returns its result.
func expectFetch(t *testing.T, s core.Session, want ...string) core.FetchResult {
	t.Helper()
	result, err := s.Fetch(t.Context(), everything)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range result.Records {
		got = append(got, r.Message.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("a fetch returned %q, want %q", got, want)
	}
	return result
}

// A pause holds a whole topic, events without a key included, and is nobody's blocked key.
func TestAPausedTopic(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	s := openSession(t, d)
	enqueued(t, d, core.Message{ID: "a", Topic: "orders"}, core.Message{ID: "b", Topic: "orders", Key: "1"}, core.Message{ID: "c", Topic: "bills"})
	before := expectFetch(t, s, "a", "b", "c").Generation

	for _, step := range []struct {
		do      string
		act     func() (bool, error)
		changed bool
		fetched []string
	}{
		{"resume what is not paused", func() (bool, error) { return s.ResumeTopic(t.Context(), "orders") }, false, []string{"a", "b", "c"}},
		{"pause", func() (bool, error) { return s.PauseTopic(t.Context(), "orders") }, true, []string{"c"}},
		{"pause again", func() (bool, error) { return s.PauseTopic(t.Context(), "orders") }, false, []string{"c"}},
		{"unblock the empty key", func() (bool, error) { return s.Unblock(t.Context(), "orders", "") }, false, []string{"c"}},
		{"resume", func() (bool, error) { return s.ResumeTopic(t.Context(), "orders") }, true, []string{"a", "b", "c"}},
	} {
		changed, err := step.act()
		if err != nil || changed != step.changed {
			t.Errorf("%s: got %v, %v, want %v", step.do, changed, err, step.changed)
		}
		after := expectFetch(t, s, step.fetched...).Generation
		if (after != before) != step.changed {
			t.Errorf("%s: the generation went from %d to %d", step.do, before, after)
		}
		before = after
	}
}

func TestAPausedTopicIsListedAndNotCounted(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	s := openSession(t, d)
	enqueued(t, d, core.Message{ID: "a", Topic: "orders", Key: "1"})
	if err := s.Bury(t.Context(), []core.Burial{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PauseTopic(t.Context(), "orders"); err != nil {
		t.Fatal(err)
	}
	keys, err := s.ListBlocked(t.Context(), "", "", 10)
	if err != nil || len(keys) != 2 || keys[0].Key != "" || keys[0].Position != 0 || keys[1].Key != "1" || keys[1].Position != 1 {
		t.Errorf("ListBlocked: got %+v, %v, want the paused topic and then the key", keys, err)
	}
	if stats, err := s.Stats(t.Context()); err != nil || stats.BlockedKeys != 1 {
		t.Errorf("Stats: got %d blocked keys, %v, want 1", stats.BlockedKeys, err)
	}
}

// A burial that was decided before an operator's retry, and arrives after it, is not for this life of the event.
func TestALateBurialDoesNothing(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	s := openSession(t, d)
	enqueued(t, d, core.Message{ID: "a", Topic: "orders", Key: "1"})
	late := []core.Burial{{Ref: core.Ref{Position: 1, ID: "a"}, Attempts: 3, Cause: "late"}}
	if err := s.Bury(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	expectFetch(t, s, "a")
	if n, err := s.CountDead(t.Context(), core.DeadFilter{}); err != nil || n != 0 {
		t.Errorf("CountDead: got %d, %v, want none", n, err)
	}
	if keys, err := s.ListBlocked(t.Context(), "", "", 10); err != nil || len(keys) != 0 {
		t.Errorf("ListBlocked: got %v, %v, want none", keys, err)
	}
}

func TestPromotedEventsAreAsOldAsTheirDueTime(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{})
	s := openSession(t, d)
	due := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	enqueued(t, d, core.Message{ID: "a", Topic: "orders", NotBefore: due})
	if p, err := s.Promote(t.Context(), 0, 10); err != nil || p.Moved != 1 {
		t.Fatalf("Promote: got %+v, %v, want one moved", p, err)
	}
	if got := expectFetch(t, s, "a").Records[0].Message.EnqueuedAt; !got.Equal(due) {
		t.Errorf("EnqueuedAt is %v, want the due time %v", got, due)
	}
}

// archived opens an outbox that keeps topics, with an event of each of orders and bills acknowledged.
func archived(t *testing.T, topics ...string) (*sqlite.Dialect, core.Session, core.ArchiveStore) {
	t.Helper()
	d := open(t, filepath.Join(t.TempDir(), "outbox.db"), sqlite.Config{Archive: topics})
	s := openSession(t, d)
	store, ok := s.(core.ArchiveStore)
	if !ok {
		t.Fatal("the session is no ArchiveStore")
	}
	enqueued(t, d, core.Message{ID: "a", Topic: "orders", Key: "1", Headers: map[string]string{"h": "v"}, Payload: []byte("p")},
		core.Message{ID: "b", Topic: "bills"}, core.Message{ID: "c", Topic: "orders"})
	refs := []core.Ref{{Position: 1, ID: "a"}, {Position: 2, ID: "b"}, {Position: 3, ID: "other"}}
	for range 2 { // again, as after an error
		if err := s.Acknowledge(t.Context(), refs); err != nil {
			t.Fatal(err)
		}
	}
	expectFetch(t, s, "c")
	return d, s, store
}

func expectArchived(t *testing.T, store core.ArchiveStore, filter core.ArchiveFilter, want ...string) []core.ArchivedEvent {
	t.Helper()
	events, err := store.ListArchived(t.Context(), filter, core.Ref{}, 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, e.Message.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the archive holds %q for %+v, want %q", got, filter, want)
	}
	return events
}

func TestTheArchiveKeepsTheConfiguredTopics(t *testing.T) {
	for _, tt := range []struct{ topics, want []string }{
		{nil, nil}, {[]string{"orders"}, []string{"a"}}, {[]string{"bills", "orders"}, []string{"a", "b"}}, {[]string{"*"}, []string{"a", "b"}},
	} {
		t.Run(fmt.Sprint(tt.topics), func(t *testing.T) {
			_, _, store := archived(t, tt.topics...)
			for _, e := range expectArchived(t, store, core.ArchiveFilter{}, tt.want...) {
				if age := time.Since(e.DeliveredAt); age < -time.Second || age > time.Minute {
					t.Errorf("delivered %v ago", age)
				}
				if m := e.Message; m.ID == "a" && (m.Topic != "orders" || m.Key != "1" || m.Headers["h"] != "v" || string(m.Payload) != "p" || e.Position != 1) {
					t.Errorf("the archive's copy is %+v", e)
				}
			}
		})
	}
}

func TestTheArchiveIsFiltered(t *testing.T) {
	_, _, store := archived(t, "*")
	at := expectArchived(t, store, core.ArchiveFilter{}, "a", "b")[0].Message.EnqueuedAt
	for _, tt := range []struct {
		filter core.ArchiveFilter
		want   []string
	}{
		{core.ArchiveFilter{ID: "b"}, []string{"b"}},
		{core.ArchiveFilter{Topic: "orders"}, []string{"a"}},
		{core.ArchiveFilter{Key: "1"}, []string{"a"}},
		{core.ArchiveFilter{From: at, To: at.Add(time.Nanosecond)}, []string{"a", "b"}},
		{core.ArchiveFilter{To: at}, nil},
		{core.ArchiveFilter{From: at.Add(time.Nanosecond)}, nil},
	} {
		expectArchived(t, store, tt.filter, tt.want...)
	}
	events, err := store.ListArchived(t.Context(), core.ArchiveFilter{}, core.Ref{Position: 1, ID: "a"}, 1)
	if err != nil || len(events) != 1 || events[0].Message.ID != "b" {
		t.Errorf("ListArchived after the first: got %v, %v, want b", events, err)
	}
}

// The copies come in the archive's order, which is that of the keys, and the archive keeps the events.
func TestReplay(t *testing.T) {
	d, s, store := archived(t, "*")
	before := expectFetch(t, s, "c").Generation
	n, last, err := store.Replay(t.Context(), core.ArchiveFilter{}, core.Ref{}, 1)
	if err != nil || n != 1 || last != (core.Ref{Position: 1, ID: "a"}) {
		t.Fatalf("Replay: got %d, %v, %v, want a", n, last, err)
	}
	n, last, err = store.Replay(t.Context(), core.ArchiveFilter{}, last, 5)
	if err != nil || n != 1 || last != (core.Ref{Position: 2, ID: "b"}) {
		t.Fatalf("Replay: got %d, %v, %v, want b", n, last, err)
	}
	result := expectFetch(t, s, "c", "a", "b")
	if result.Generation == before {
		t.Error("the generation did not change")
	}
	if a := result.Records[1]; a.Position <= 3 || a.Attempts != 0 || a.Message.Headers["h"] != "v" || string(a.Message.Payload) != "p" {
		t.Errorf("the copy is %+v", a)
	}
	expectArchived(t, store, core.ArchiveFilter{}, "a", "b")
	deliver(t, d)
	expectArchived(t, store, core.ArchiveFilter{Topic: "orders"}, "a", "c", "a")
	if n, _, err := store.Replay(t.Context(), core.ArchiveFilter{ID: "none"}, core.Ref{}, 5); err != nil || n != 0 {
		t.Errorf("Replay of nothing: got %d, %v", n, err)
	}
}

func TestPurge(t *testing.T) {
	d, s, store := archived(t, "*")
	if err := s.Bury(t.Context(), []core.Burial{{Ref: core.Ref{Position: 3, ID: "c"}, Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	purge := func(olderThan time.Duration, limit, want int) {
		t.Helper()
		if n, err := store.Purge(t.Context(), olderThan, limit); err != nil || n != want {
			t.Errorf("Purge(%v, %d): got %d, %v, want %d", olderThan, limit, n, err, want)
		}
	}
	if _, err := d.DB().Exec(`UPDATE outbox_archive SET delivered_at = delivered_at - 3600000 * (1 + (id = 'b'))`); err != nil {
		t.Fatal(err)
	}
	purge(3*time.Hour, 10, 0)
	purge(0, 1, 1)
	expectArchived(t, store, core.ArchiveFilter{}, "a") // b was delivered earlier
	if n, err := s.DropDead(t.Context(), core.DeadFilter{}, "unwanted", 10); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	purge(time.Minute, 10, 1)
	expectArchived(t, store, core.ArchiveFilter{})
	purge(0, 10, 1) // the dropped one
	if n, err := s.CountDead(t.Context(), core.DeadFilter{Dropped: true}); err != nil || n != 0 {
		t.Errorf("CountDead of dropped ones: got %d, %v, want none", n, err)
	}
}
