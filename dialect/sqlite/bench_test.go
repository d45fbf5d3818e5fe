package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// What a relay does all day, with 300 bytes of payload: a fetch of 1000 events, and their acknowledgement.
func BenchmarkFetchAndAcknowledge(b *testing.B) {
	const batch, events = 1000, 100_000
	d := open(b, filepath.Join(b.TempDir(), "outbox.db"), sqlite.Config{})
	s, err := d.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	after, left := int64(0), 0
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			_, err := d.DB().ExecContext(b.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO outbox (topic, key, payload) SELECT 'orders', i % 1000, zeroblob(300) FROM n`, events)
			if err != nil {
				b.Fatal(err)
			}
			left = events
			b.StartTimer()
		}
		result, err := s.Fetch(b.Context(), core.FetchRequest{After: after, Limit: batch, MaxBytes: 4 << 20})
		if err != nil {
			b.Fatal(err)
		}
		refs := make([]core.Ref, len(result.Records))
		for i, r := range result.Records {
			refs[i], after = r.Ref(), r.Position
		}
		if err := s.Acknowledge(b.Context(), refs); err != nil {
			b.Fatal(err)
		}
		left -= len(refs)
	}
	b.ReportMetric(batch*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
