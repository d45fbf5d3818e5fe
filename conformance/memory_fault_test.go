package conformance

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// enqueueIn enqueues messages of keys of their own in tx.
func enqueueIn(t *testing.T, m *Memory, tx *MemoryTx, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if err := m.Enqueue(t.Context(), tx, []core.Message{keyed(id, id)}); err != nil {
			t.Fatal(err)
		}
	}
}

func begin(t *testing.T, m *Memory) *MemoryTx {
	t.Helper()
	tx, err := m.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func commitAll(t *testing.T, m *Memory, ids ...string) {
	t.Helper()
	tx := begin(t, m)
	enqueueIn(t, m, tx, ids...)
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

func openSession(t *testing.T, m *Memory) core.Session {
	t.Helper()
	s, err := m.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func expectRecords(t *testing.T, m *Memory, want ...string) {
	t.Helper()
	if err := same("the outbox holds", ids(m.Contents().Records), want); err != nil {
		t.Error(err)
	}
}

func TestMemoryMergesLateCommits(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	first, second, third := begin(t, m), begin(t, m), begin(t, m)
	enqueueIn(t, m, first, "1")
	enqueueIn(t, m, second, "2")
	enqueueIn(t, m, first, "3")
	enqueueIn(t, m, third, "4")
	enqueueIn(t, m, first, "5")
	enqueueIn(t, m, second, "6")
	for _, step := range []struct {
		tx   *MemoryTx
		want []string
	}{{second, []string{"2", "6"}}, {first, []string{"1", "2", "3", "5", "6"}}, {third, []string{"1", "2", "3", "4", "5", "6"}}} {
		if err := step.tx.Commit(); err != nil {
			t.Fatal(err)
		}
		expectRecords(t, m, step.want...)
	}
	// Each subset of the six, acknowledged, leaves the others: the table closes its holes from either side.
	for subset := range 1 << 6 {
		m := NewMemory(MemoryConfig{})
		commitAll(t, m, "1", "2", "3", "4", "5", "6")
		var refs []core.Ref
		var want []string
		for i, r := range m.Contents().Records {
			if subset>>i&1 == 1 {
				refs = append(refs, r.Ref(), r.Ref())
			} else {
				want = append(want, r.Message.ID)
			}
		}
		if err := openSession(t, m).Acknowledge(t.Context(), refs); err != nil {
			t.Fatal(err)
		}
		expectRecords(t, m, want...)
	}
}

func TestMemoryArchives(t *testing.T) {
	m := NewMemory(MemoryConfig{Archive: true})
	commitAll(t, m, "a", "b")
	ref := m.Contents().Records[0].Ref()
	if err := openSession(t, m).Acknowledge(t.Context(), []core.Ref{ref, ref}); err != nil {
		t.Fatal(err)
	}
	if err := same("the archive holds", ids(m.Contents().Archived), []string{"a"}); err != nil {
		t.Error(err)
	}
	expectRecords(t, m, "b")
}

// What a fault does to a session's change, to its answer and to the session.
func TestMemoryFaultsOfASession(t *testing.T) {
	refused := errors.New("refused")
	for name, tt := range map[string]struct {
		fault    Fault
		want     error
		executed bool
	}{
		"nothing":              {Fault{}, nil, true},
		"slow":                 {Fault{Before: time.Second / 4, After: time.Second / 4}, nil, true},
		"refused":              {Fault{Refuse: refused}, refused, false},
		"lost":                 {Fault{Lose: true}, ErrAnswerLost, true},
		"ended before":         {Fault{Before: time.Second}, context.DeadlineExceeded, false},
		"ended after":          {Fault{After: time.Second}, context.DeadlineExceeded, true},
		"ended before, late":   {Fault{Before: 2 * time.Second, Late: true}, context.DeadlineExceeded, true},
		"late, but was not so": {Fault{Late: true}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory(MemoryConfig{})
				commitAll(t, m, "a", "b")
				s := openSession(t, m)
				refs := []core.Ref{m.Contents().Records[0].Ref()}
				m.Inject(func(c Call) Fault {
					if c != (Call{Op: "Acknowledge", Session: 1}) {
						t.Errorf("the call is %+v", c)
					}
					return tt.fault
				})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := s.Acknowledge(ctx, refs); !errors.Is(err, tt.want) {
					t.Errorf("Acknowledge: got %v, want %v", err, tt.want)
				}
				m.Inject(nil)
				refs[0] = core.Ref{} // the caller's again
				if tt.fault.Late && tt.want != nil {
					expectRecords(t, m, "a", "b")
				}
				time.Sleep(time.Second) // the bubble's clock
				if tt.executed {
					expectRecords(t, m, "b")
				} else {
					expectRecords(t, m, "a", "b")
				}
				if _, err := s.Stats(t.Context()); (err == nil) != (tt.want == nil) {
					t.Errorf("afterwards the session answers with %v", err)
				}
				if s.Close(); m.Contents().Sessions != 0 {
					t.Error("a closed session is counted")
				}
			})
		})
	}
}

func TestMemoryFaultsOfACommit(t *testing.T) {
	for name, tt := range map[string]struct {
		fault     Fault
		committed bool
	}{
		"refused": {Fault{Refuse: ErrDeadlock}, false},
		"lost":    {Fault{Lose: true}, true},
		"ended":   {Fault{Before: time.Minute}, false},
		"late":    {Fault{Before: time.Minute, Late: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := NewMemory(MemoryConfig{})
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				tx, err := m.Begin(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.LockRow(ctx, "row"); err != nil {
					t.Fatal(err)
				}
				enqueueIn(t, m, tx, "a")
				m.Inject(func(c Call) Fault {
					if c.Op == "Commit" && c.Tx == 1 {
						return tt.fault
					}
					return Fault{}
				})
				if err := tx.Commit(); err == nil || m.Retryable(err) != (tt.fault.Refuse != nil) {
					t.Errorf("Commit: got %v", err)
				}
				if err := tx.Rollback(); !errors.Is(err, ErrBroken) {
					t.Errorf("Rollback after it: got %v", err)
				}
				// The row is free once the transaction has ended at the server, with nobody else calling.
				next := begin(t, m)
				if err := next.LockRow(t.Context(), "row"); err != nil {
					t.Error(err)
				}
				var want []string
				if tt.committed {
					want = []string{"a"}
				}
				expectRecords(t, m, want...)
			})
		})
	}
}

func TestMemoryLocksAreServedInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		holder := begin(t, m)
		if err := holder.LockRow(t.Context(), "row"); err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"1", "2", "3"} {
			go func() {
				ctx := t.Context()
				if id == "2" { // gives up
					short, cancel := context.WithTimeout(ctx, time.Second)
					defer cancel()
					ctx = short
				}
				tx, err := m.Begin(ctx)
				if err != nil {
					t.Error(err)
					return
				}
				if err := tx.LockRow(ctx, "row"); err != nil {
					if id != "2" {
						t.Error(err)
					}
					return
				}
				enqueueIn(t, m, tx, id)
				if err := tx.Commit(); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		time.Sleep(time.Minute) // the bubble's clock
		enqueueIn(t, m, holder, "0")
		if err := holder.Commit(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		expectRecords(t, m, "0", "1", "3")
		if len(m.locks) != 0 || m.Contents().Transactions != 0 {
			t.Errorf("%d locks and %d transactions are left", len(m.locks), m.Contents().Transactions)
		}
	})
}

func TestMemoryFindsDeadlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		one, other := begin(t, m), begin(t, m)
		for tx, row := range map[*MemoryTx]string{one: "a", other: "b"} {
			if err := tx.LockRow(t.Context(), row); err != nil {
				t.Fatal(err)
			}
		}
		done := make(chan error)
		go func() { done <- one.LockRow(t.Context(), "b") }()
		synctest.Wait()
		if err := other.LockRow(t.Context(), "a"); !m.Retryable(err) {
			t.Errorf("the lock that closes the circle: got %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("the other lock: got %v", err)
		}
	})
}

func TestMemoryRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		commitAll(t, m, "a")
		s, tx, waiting := openSession(t, m), begin(t, m), begin(t, m)
		before, _ := s.Fetch(t.Context(), everything)
		if err := tx.LockRow(t.Context(), "row"); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { done <- waiting.LockRow(t.Context(), "row") }()
		synctest.Wait()
		enqueueIn(t, m, tx, "b")
		m.Restart(Restart{})
		if err := <-done; !errors.Is(err, ErrBroken) {
			t.Errorf("a waiting lock: got %v", err)
		}
		if err := tx.Commit(); !errors.Is(err, ErrBroken) {
			t.Errorf("Commit: got %v", err)
		}
		if _, err := s.Stats(t.Context()); !errors.Is(err, ErrBroken) {
			t.Errorf("Stats: got %v", err)
		}
		expectRecords(t, m, "a")
		after, _ := openSession(t, m).Fetch(t.Context(), everything)
		if before.Incarnation == after.Incarnation {
			t.Error("the incarnation is the same")
		}
	})
}

// A failover behind a pooler: the session goes on, and finds another past.
func TestMemoryLosesItsTail(t *testing.T) {
	ctx := t.Context()
	m := NewMemory(MemoryConfig{})
	s := openSession(t, m)
	lease, _ := s.ReadLease(ctx)
	if ok, err := s.TakeLease(ctx, lease, "me", time.Hour); !ok || err != nil {
		t.Fatal(ok, err)
	}
	commitAll(t, m, "a", "b", "c", "d")
	kept := fmt.Sprintf("%+v", m.Contents())
	r := m.Contents().Records

	steps := []error{
		s.Acknowledge(ctx, []core.Ref{r[0].Ref()}),
		s.Fail(ctx, []core.Failure{{Ref: r[1].Ref(), Attempts: 1, RetryIn: time.Hour, Cause: "x"}}),
		s.Bury(ctx, []core.Burial{{Ref: r[1].Ref(), Attempts: 2}, {Ref: r[2].Ref(), Attempts: 1}}),
	}
	_, dropped := s.DropDead(ctx, core.DeadFilter{ID: "b"}, "why not", 1)
	_, retried := s.RetryDead(ctx, core.DeadFilter{ID: "c"}, 1)
	_, renewed := s.RenewLease(ctx, "me", 1, time.Minute, false)
	if err := errors.Join(append(steps, dropped, retried, renewed)...); err != nil {
		t.Fatal(err)
	}
	commitAll(t, m, "e", "f")
	tx := begin(t, m)
	if err := m.Enqueue(ctx, tx, []core.Message{{ID: "late", Topic: "t", NotBefore: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if p, err := s.Promote(ctx, 1, 10); p.Moved != 1 || err != nil {
		t.Fatal(p, err)
	}
	lost := m.Restart(Restart{Lose: 9, KeepSessions: true})
	if err := same("lost", lost, []string{"late", "f", "e"}); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprintf("%+v", m.Contents()); got != kept {
		t.Errorf("after the loss: got\n%s, want\n%s", got, kept)
	}
	commitAll(t, m, "g")
	if got, err := s.Fetch(ctx, everything); err != nil || got.Records[4].Position != 5 {
		t.Errorf("the next position after the loss: got %+v, %v", got, err)
	}
}

func TestMemoryTxIsLikeSQL(t *testing.T) {
	m := NewMemory(MemoryConfig{})
	tx := begin(t, m)
	if _, err := tx.ExecContext(t.Context(), "SELECT 1"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("ExecContext: got %v", err)
	}
	if err := tx.Commit(); err != nil {
		t.Error(err)
	}
	if err := tx.Rollback(); !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("Rollback after Commit: got %v, want %v", err, sql.ErrTxDone)
	}
	if err := NewMemory(MemoryConfig{}).Enqueue(t.Context(), tx, []core.Message{event("a")}); err == nil {
		t.Error("a transaction of another database was taken")
	}
}

func TestMemoryLetsOnlyOneGoroutineIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryConfig{})
		s := openSession(t, m)
		m.Inject(func(Call) Fault { return Fault{Before: time.Second} })
		go s.Stats(t.Context())
		synctest.Wait()
		defer func() {
			if recover() == nil {
				t.Error("two goroutines used a session at a time, and nothing was said")
			}
			time.Sleep(time.Minute) // the bubble's clock
		}()
		s.Stats(t.Context())
	})
}
