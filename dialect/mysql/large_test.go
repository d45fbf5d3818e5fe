package mysql_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
)

// A fetch expects small payloads until it meets a large one, wherever that is, and again when it has met none for a while. Each
// result is the same as if it had expected the right thing.
func TestFetchesOfSmallAndLargePayloads(t *testing.T) {
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		s := openSession(t, f)
		const limit, most = 10, 10_000 // more than 2000 bytes are large
		add := func(position, payload int) {
			execute(t, f, fmt.Sprintf("INSERT INTO outbox (position, id, topic, payload) VALUES (%d, %d, 't', REPEAT('x', %d))", position, payload, payload))
		}
		expect := func(name string, more bool, want ...int) {
			t.Helper()
			result, err := s.Fetch(t.Context(), core.FetchRequest{Limit: limit, MaxBytes: most})
			var got []int
			for _, r := range result.Records {
				if r.Message.ID != fmt.Sprint(len(r.Message.Payload)) {
					t.Errorf("%s: the event of %s bytes has %d", name, r.Message.ID, len(r.Message.Payload))
				}
				got = append(got, len(r.Message.Payload))
			}
			if err != nil || !slices.Equal(got, want) || result.More != more {
				t.Errorf("%s: got payloads of %d bytes, more: %v, %v; want %d, more: %v", name, got, result.More, err, want, more)
			}
		}
		expect("none", false)
		add(1, 0)
		add(2, 2000)
		expect("small ones", false, 0, 2000)
		add(4, 2001)
		expect("one that is large", false, 0, 2000, 2001)
		add(5, 9000)
		add(6, 1)
		expect("enough", true, 0, 2000, 2001, 9000)
		execute(t, f, `DELETE FROM outbox WHERE position >= 4`)
		for range 20 {
			expect("small ones again", false, 0, 2000)
		}
		add(1000, 9001) // farther away than where sizes are looked at
		expect("a large one far away", true, 0, 2000, 9001)
		execute(t, f, `DELETE FROM outbox WHERE position < 1000`)
		expect("a large one alone", false, 9001)
	})
}
