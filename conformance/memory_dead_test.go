package conformance

import (
	"errors"
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// Two dead letters of one position, as a restore leaves them. That no two events of the outbox have one is what Memory promises.
func TestMemoryHasTwins(t *testing.T) {
	a, b := []string{"a"}, []string{"b"}
	for name, tt := range map[string]struct {
		call           func(s core.Session) (int, error)
		want           int
		dead, inOutbox []string
		blocked        int
	}{
		"retry one":  {retryOf(t, "a"), 1, b, a, 0},
		"retry both": {retryOf(t, ""), 1, b, a, 0},
		"drop one":   {dropOf(t, "a"), 1, b, nil, 1},
		"drop other": {dropOf(t, "b"), 1, a, nil, 1},
		"drop both":  {dropOf(t, ""), 2, nil, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMemory(MemoryConfig{})
			tx := begin(t, m)
			if err := errors.Join(m.Enqueue(t.Context(), tx, []core.Message{event("a"), event("b")}), tx.Commit()); err != nil {
				t.Fatal(err)
			}
			s := openSession(t, m)
			r, err := s.Fetch(t.Context(), everything)
			if err != nil || len(r.Records) != 2 {
				t.Fatal(r, err)
			}
			if err := s.Bury(t.Context(), []core.Burial{{Ref: r.Records[0].Ref(), Attempts: 1}, {Ref: r.Records[1].Ref(), Attempts: 1}}); err != nil {
				t.Fatal(err)
			}
			m.locked(func() {
				m.dead.rows[1].position = m.dead.rows[0].position
				for key, blockers := range m.blocked {
					m.blocked[key] = blockers[:1]
				}
			})
			if n, err := tt.call(s); n != tt.want || err != nil {
				t.Fatalf("the call: got %d, %v, want %d", n, err, tt.want)
			}
			dead, err := s.ListDead(t.Context(), core.DeadFilter{}, core.Ref{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			keys, err := s.ListBlocked(t.Context(), "", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			if r, err = s.Fetch(t.Context(), everything); err != nil {
				t.Fatal(err)
			}
			got, want := fmt.Sprint(deadIDs(dead), ids(r.Records), len(keys)), fmt.Sprint(tt.dead, tt.inOutbox, tt.blocked)
			if got != want {
				t.Errorf("dead letters, outbox and blocked keys: got %s, want %s", got, want)
			}
			if n, err := s.RetryDead(t.Context(), core.DeadFilter{}, 10); len(tt.inOutbox) > 0 && (n != 0 || err != nil) {
				t.Errorf("a retry while the position is taken: got %d, %v", n, err)
			}
			if _, err := s.DropDead(t.Context(), core.DeadFilter{}, "r", 10); err != nil || len(m.blocked) > 0 {
				t.Errorf("after a drop of what is left: blocked are %v, %v", m.blocked, err)
			}
		})
	}
}

// A retry goes past dead letters whose positions are taken.
func TestMemoryRetriesWhatIsFree(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	tx := begin(t, m)
	if err := errors.Join(m.Enqueue(t.Context(), tx, []core.Message{event("a"), event("x"), event("c")}), tx.Commit()); err != nil {
		t.Fatal(err)
	}
	s := openSession(t, m)
	r, err := s.Fetch(t.Context(), everything)
	if err != nil || len(r.Records) != 3 {
		t.Fatal(r, err)
	}
	if err := s.Bury(t.Context(), []core.Burial{{Ref: r.Records[0].Ref(), Attempts: 1}, {Ref: r.Records[2].Ref(), Attempts: 1}}); err != nil {
		t.Fatal(err)
	}
	m.locked(func() { m.dead.rows[0].position = r.Records[1].Position })
	for _, want := range []int{1, 0} {
		if n, err := s.RetryDead(t.Context(), core.DeadFilter{}, 1); n != want || err != nil {
			t.Errorf("a retry of one: got %d, %v, want %d", n, err, want)
		}
	}
	if dead, err := s.ListDead(t.Context(), core.DeadFilter{}, core.Ref{}, 10); err != nil || fmt.Sprint(deadIDs(dead)) != "[a]" {
		t.Errorf("dead letters: got %v, %v, want a", deadIDs(dead), err)
	}
}

func retryOf(t *testing.T, id string) func(core.Session) (int, error) {
	return func(s core.Session) (int, error) { return s.RetryDead(t.Context(), core.DeadFilter{ID: id}, 10) }
}

func dropOf(t *testing.T, id string) func(core.Session) (int, error) {
	return func(s core.Session) (int, error) {
		return s.DropDead(t.Context(), core.DeadFilter{ID: id}, "r", 10)
	}
}
