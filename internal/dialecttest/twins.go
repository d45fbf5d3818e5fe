package dialecttest

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

// TwinsAreTwoDeadLetters expects that of two dead letters of one position, a and b, each is retried and dropped by itself. No call
// makes such a pair: it takes a restore, after which positions are used again.
func TwinsAreTwoDeadLetters(t *testing.T, open func(t *testing.T) conformance.DialectFixture) {
	const k, other = "k", "other"
	for name, tt := range map[string]struct {
		keyOfB string
		filter core.DeadFilter
		drop   bool

		want      int // dead letters that the call changes
		waiting   string
		dropped   string
		inOutbox  string
		isBlocked string
	}{
		"retry one":                  {k, core.DeadFilter{ID: "a"}, false, 1, "b", "", "a", ""},
		"retry the other":            {k, core.DeadFilter{ID: "b"}, false, 1, "a", "", "b", ""},
		"retry both":                 {k, core.DeadFilter{}, false, 1, "b", "", "a", ""},
		"retry one of another key":   {other, core.DeadFilter{ID: "a"}, false, 1, "b", "", "a", other},
		"drop one":                   {k, core.DeadFilter{ID: "a"}, true, 1, "b", "a", "", k},
		"drop the other":             {k, core.DeadFilter{ID: "b"}, true, 1, "a", "b", "", k},
		"drop both":                  {k, core.DeadFilter{}, true, 2, "", "a b", "", ""},
		"drop one of another key":    {other, core.DeadFilter{ID: "a"}, true, 1, "b", "a", "", other},
		"drop both of different key": {other, core.DeadFilter{}, true, 2, "", "a b", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := open(t)
			s := OpenSession(t, f)
			a := twins(t, f, s, core.Message{ID: "a", Topic: "t", Key: k}, core.Message{ID: "b", Topic: "t", Key: tt.keyOfB})
			call := func() (int, error) {
				if tt.drop {
					return s.DropDead(t.Context(), tt.filter, "r", 10)
				}
				return s.RetryDead(t.Context(), tt.filter, 10)
			}
			if n, err := call(); n != tt.want || err != nil {
				t.Fatalf("the call: got %d, %v, want %d", n, err, tt.want)
			}
			expectTwins(t, s, tt.waiting, tt.dropped, tt.inOutbox, tt.isBlocked)
			if tt.drop {
				if n, err := s.DropDead(t.Context(), core.DeadFilter{}, "r", 10); n != 2-tt.want || err != nil {
					t.Errorf("a drop of what is left: got %d, %v, want %d", n, err, 2-tt.want)
				}
				expectTwins(t, s, "", "a b", "", "")
				return
			}
			// The position is taken until what came back is delivered.
			if n, err := s.RetryDead(t.Context(), core.DeadFilter{}, 10); n != 0 || err != nil {
				t.Errorf("a retry while the position is taken: got %d, %v", n, err)
			}
			expectTwins(t, s, tt.waiting, tt.dropped, tt.inOutbox, tt.isBlocked)
			if err := s.Acknowledge(t.Context(), []core.Ref{{Position: a, ID: tt.inOutbox}}); err != nil {
				t.Fatal(err)
			}
			if n, err := s.RetryDead(t.Context(), core.DeadFilter{}, 10); n != 1 || err != nil {
				t.Errorf("a retry after that: got %d, %v, want 1", n, err)
			}
			expectTwins(t, s, "", "", tt.waiting, "")
		})
	}
}

// twins makes a and b dead letters of one position, which it returns.
func twins(t *testing.T, f conformance.DialectFixture, s core.Session, a, b core.Message) (position int64) {
	t.Helper()
	Enqueued(t, f, a)
	Enqueued(t, f, b)
	records := FetchAll(t, s).Records
	if err := s.Bury(t.Context(), []core.Burial{{Ref: records[0].Ref(), Attempts: 1}, {Ref: records[1].Ref(), Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	position = records[0].Position
	second := records[1].Position
	Execute(t, f, fmt.Sprintf(`UPDATE outbox_dead SET position = %d WHERE position = %d`, position, second))
	if a.Key == b.Key {
		Execute(t, f, fmt.Sprintf(`DELETE FROM outbox_blocked WHERE position = %d`, second)) // they have one
	} else {
		Execute(t, f, fmt.Sprintf(`UPDATE outbox_blocked SET position = %d WHERE position = %d`, position, second))
	}
	return position
}

// TwinsDroppedAtOnceLeaveNoBlock has two operators drop two dead letters of one position at once: the key that they block goes on.
// Both are held up before they tell the readers; waiting is the query for how many sessions wait for a lock.
func TwinsDroppedAtOnceLeaveNoBlock(t *testing.T, f conformance.DialectFixture, waiting string) {
	t.Helper()
	ids := []string{"a" + core.NewID(), "b" + core.NewID()}
	s := OpenSession(t, f)
	twins(t, f, s, core.Message{ID: ids[0], Topic: "t", Key: "k"}, core.Message{ID: ids[1], Topic: "t", Key: "k"})
	held, err := f.DB.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Rollback()
	if _, err := held.ExecContext(t.Context(), `UPDATE outbox_control SET generation = generation + 1`); err != nil {
		t.Fatal(err)
	}
	dropped := make(chan error, len(ids))
	for _, id := range ids {
		s := OpenSession(t, f)
		go func() {
			n, err := s.DropDead(t.Context(), core.DeadFilter{ID: id}, "r", 1)
			if err == nil && n != 1 {
				err = fmt.Errorf("%d were dropped", n)
			}
			dropped <- err
		}()
	}
	Eventually(t, "both wait", func() (bool, error) { return Count(t, f, waiting) == len(ids), nil })
	if err := held.Commit(); err != nil {
		t.Fatal(err)
	}
	for range ids {
		if err := <-dropped; err != nil {
			t.Errorf("DropDead: %v, want one dropped", err)
		}
	}
	expectTwins(t, s, "", ids[0]+" "+ids[1], "", "")
}

// ARetryGoesPastWhatCannotGoBack expects that dead letters whose positions are taken, as after a restore, keep no other from its
// retry, however many come first.
func ARetryGoesPastWhatCannotGoBack(t *testing.T, f conformance.DialectFixture) {
	t.Helper()
	s := OpenSession(t, f)
	for _, id := range []string{"a", "x", "c"} {
		Enqueued(t, f, core.Message{ID: id, Topic: "t"})
	}
	records := FetchAll(t, s).Records
	taken := records[1].Ref()
	if err := s.Bury(t.Context(), []core.Burial{{Ref: records[0].Ref(), Attempts: 1}, {Ref: records[2].Ref(), Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	Execute(t, f, fmt.Sprintf(`UPDATE outbox_dead SET position = %d WHERE id = 'a'`, taken.Position))
	retry := func(want int) {
		t.Helper()
		if n, err := s.RetryDead(t.Context(), core.DeadFilter{}, 1); n != want || err != nil {
			t.Errorf("a retry of one: got %d, %v, want %d", n, err, want)
		}
	}
	retry(1)
	expectTwins(t, s, "a", "", "x c", "")
	retry(0)
	if err := s.Acknowledge(t.Context(), []core.Ref{taken}); err != nil {
		t.Fatal(err)
	}
	retry(1)
	expectTwins(t, s, "", "", "a c", "")
}

// expectTwins compares ids, and keys, each list separated by spaces.
func expectTwins(t *testing.T, s core.Session, waiting, dropped, inOutbox, blocked string) {
	t.Helper()
	for _, list := range []struct {
		what   string
		filter core.DeadFilter
		want   string
	}{{"waiting", core.DeadFilter{}, waiting}, {"dropped", core.DeadFilter{Dropped: true}, dropped}} {
		letters, err := s.ListDead(t.Context(), list.filter, core.Ref{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		expectList(t, list.what, letters, func(l core.DeadLetter) string { return l.Message.ID }, list.want)
	}
	expectList(t, "in the outbox", FetchAll(t, s).Records, func(r core.Record) string { return r.Message.ID }, inOutbox)
	keys, err := s.ListBlocked(t.Context(), "", "", 10)
	if err != nil {
		t.Fatal(err)
	}
	expectList(t, "blocked", keys, func(k core.BlockedKey) string { return k.Key }, blocked)
}

func expectList[T any](t *testing.T, what string, list []T, name func(T) string, want string) {
	t.Helper()
	got := ""
	for i, entry := range list {
		if i > 0 {
			got += " "
		}
		got += name(entry)
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}
