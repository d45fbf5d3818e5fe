package postgres_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// BenchmarkFetch reads a full batch of events of 300 bytes from a large outbox, with and without blocked keys.
func BenchmarkFetch(b *testing.B) {
	const batch = 2000
	for _, blocked := range []int{0, 100} {
		b.Run(fmt.Sprintf("blocked=%d", blocked), func(b *testing.B) {
			f := open(b, servers.PostgresSchema(b), postgres.Config{})
			execute(b, f, `INSERT INTO outbox (topic, key, payload)
SELECT 't', i::text, convert_to(repeat('x', 300), 'UTF8') FROM generate_series(1, 100000) AS i`,
				fmt.Sprintf(`INSERT INTO outbox_blocked (topic, key, position) SELECT 't', 'blocked' || i, i FROM generate_series(1, %d) AS i`, blocked),
				`VACUUM ANALYZE outbox`)
			s := openSession(b, f)
			after := int64(0)
			for b.Loop() {
				result, err := s.Fetch(b.Context(), core.FetchRequest{After: after, Limit: batch, MaxBytes: 4 << 20})
				if err != nil || len(result.Records) != batch {
					b.Fatalf("got %d events, %v, want %d", len(result.Records), err, batch)
				}
				if after += batch; after == 100_000 {
					after = 0
				}
			}
			b.ReportMetric(float64(batch)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkFetchBehindBlocked reads a batch behind 100 000 events of blocked keys: of 1000 keys, which are put into a hash table,
// and, with as many rows of blocked keys as no fetch does that for, looked up one by one.
func BenchmarkFetchBehindBlocked(b *testing.B) {
	for _, keys := range []int{1000, 10_001} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			f := open(b, servers.PostgresSchema(b), postgres.Config{})
			const insert = `INSERT INTO outbox (topic, key, payload) SELECT 't', '%s' || i %% 1000, convert_to(repeat('x', 300), 'UTF8') FROM generate_series(1, %d) AS i`
			execute(b, f, fmt.Sprintf(insert, "blocked", 100_000), fmt.Sprintf(insert, "free", 1000),
				fmt.Sprintf(`INSERT INTO outbox_blocked (topic, key, position) SELECT 't', 'blocked' || i, i FROM generate_series(0, %d) AS i`, keys-1),
				`VACUUM ANALYZE outbox`, `VACUUM ANALYZE outbox_blocked`)
			s := openSession(b, f)
			for b.Loop() {
				result, err := s.Fetch(b.Context(), core.FetchRequest{Limit: 1000, MaxBytes: 4 << 20})
				if err != nil || len(result.Records) != 1000 {
					b.Fatalf("got %d events, %v, want 1000", len(result.Records), err)
				}
			}
		})
	}
}
