package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/lockstep-go/lockstep/dialect/sqlite"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

// With 300 bytes of payload.
func BenchmarkFetchAndAcknowledge(b *testing.B) {
	d := open(b, filepath.Join(b.TempDir(), "outbox.db"), sqlite.Config{})
	s, err := d.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	dialecttest.FetchAndAcknowledge(b, s, func(events int) {
		_, err := d.DB().ExecContext(b.Context(), `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO outbox (topic, key, payload) SELECT 'orders', i % 1000, zeroblob(300) FROM n`, events)
		if err != nil {
			b.Fatal(err)
		}
	})
}
