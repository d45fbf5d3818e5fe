package conformance

import (
	"strconv"
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

func BenchmarkMemoryEnqueueAndCommit(b *testing.B) {
	m := NewMemory(MemoryConfig{})
	msgs := []core.Message{event("a")}
	for range b.N {
		tx, _ := m.Begin(b.Context())
		m.Enqueue(b.Context(), tx, msgs)
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}

// filled returns a database with n records, and their names.
func filled(b *testing.B, n int) (*Memory, core.Session, []core.Ref) {
	m := NewMemory(MemoryConfig{})
	tx, _ := m.Begin(b.Context())
	msgs := make([]core.Message, n)
	for i := range msgs {
		msgs[i] = keyed(strconv.Itoa(i), strconv.Itoa(i))
	}
	m.Enqueue(b.Context(), tx, msgs)
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	s, _ := m.Open(b.Context())
	var refs []core.Ref
	for _, r := range m.Contents().Records {
		refs = append(refs, r.Ref())
	}
	return m, s, refs
}

func BenchmarkMemoryFetch100Of10000(b *testing.B) {
	_, s, refs := filled(b, 10_000)
	request := core.FetchRequest{After: refs[5000].Position, Limit: 100, MaxBytes: 1 << 30}
	for b.Loop() {
		if r, err := s.Fetch(b.Context(), request); err != nil || len(r.Records) != 100 {
			b.Fatal(err)
		}
	}
}

// Each iteration is one call that removes 10 records from the middle of up to 10 000.
func BenchmarkMemoryAcknowledge10(b *testing.B) {
	var s core.Session
	var refs []core.Ref
	for i := range b.N {
		if i%500 == 0 {
			b.StopTimer()
			_, s, refs = filled(b, 10_000)
			b.StartTimer()
		}
		at := i % 500 * 10
		if err := s.Acknowledge(b.Context(), refs[2500+at:2500+at+10]); err != nil {
			b.Fatal(err)
		}
	}
}

// The size of one simulated schedule.
func BenchmarkMemorySchedule(b *testing.B) {
	msgs := []core.Message{event("a")}
	for b.Loop() {
		m := NewMemory(MemoryConfig{Outbox: "o"})
		s, _ := m.Open(b.Context())
		for range 20 {
			tx, _ := m.Begin(b.Context())
			m.Enqueue(b.Context(), tx, msgs)
			tx.Commit()
			r, _ := s.Fetch(b.Context(), core.FetchRequest{Limit: 100, MaxBytes: 1 << 20})
			s.Acknowledge(b.Context(), []core.Ref{r.Records[0].Ref()})
		}
	}
}
