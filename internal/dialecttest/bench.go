package dialecttest

import (
	"testing"

	"github.com/lockstep-go/lockstep/core"
)

// FetchAndAcknowledge is what a relay does all day: a fetch of 1000 events, and their acknowledgement. fill enqueues so many events.
func FetchAndAcknowledge(b *testing.B, s core.Session, fill func(events int)) {
	b.Helper()
	const batch, events = 1000, 100_000
	after, left := int64(0), 0
	for b.Loop() {
		if left == 0 {
			b.StopTimer()
			fill(events)
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
