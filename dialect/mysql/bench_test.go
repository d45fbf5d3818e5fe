package mysql_test

import (
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// What a relay does all day, with 300 bytes of payload: a fetch of 1000 events, and their acknowledgement.
func BenchmarkFetchAndAcknowledge(b *testing.B) {
	const batch, events = 1000, 100_000
	for _, flavour := range flavours {
		b.Run(flavour.name, func(b *testing.B) {
			f := open(b, flavour.database(b), mysql.Config{})
			s := openSession(b, f)
			after, left := int64(0), 0
			for b.Loop() {
				if left == 0 {
					b.StopTimer()
					fill(b, f, events, 1000, strings.Repeat("x", 300))
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
		})
	}
}
