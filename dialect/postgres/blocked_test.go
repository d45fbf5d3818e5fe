package postgres_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A fetch's statement is made for as many blocked keys as the one before found. Whatever they have become since, no event of
// a blocked key, or of a paused topic, is returned, and every other one is.
func TestFetchLeavesOutWhatIsBlockedHoweverMuchThatIs(t *testing.T) {
	t.Parallel()
	const few = 10_000
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	execute(t, f, `INSERT INTO outbox (topic, key, payload)
VALUES ('t', 'free', 'x'), ('t', 'blocked', 'x'), ('paused', 'free', 'x'), ('paused', '', 'x'), ('t', '', 'x')`)
	request := core.FetchRequest{Limit: 10, MaxBytes: 1 << 20}
	want := map[bool]string{false: "t/free t/blocked paused/free paused/ t/ ", true: "t/free t/ "}
	for _, before := range []int{0, 2, few, few + 100} {
		for _, after := range []int{0, 2, few, few + 100} {
			t.Run(fmt.Sprintf("%d and then %d", before, after), func(t *testing.T) {
				s := openSession(t, f)
				for _, rows := range []int{before, after} {
					execute(t, f, `DELETE FROM outbox_blocked`)
					if rows > 0 {
						execute(t, f, `INSERT INTO outbox_blocked (topic, key, position) VALUES ('t', 'blocked', 2), ('paused', '', 0)`,
							fmt.Sprintf(`INSERT INTO outbox_blocked (topic, key, position) SELECT 'other', i::text, i FROM generate_series(3, %d) AS i`, rows))
					}
					result, err := s.Fetch(t.Context(), request)
					if err != nil {
						t.Fatal(err)
					}
					got := ""
					for _, r := range result.Records {
						got += r.Message.Topic + "/" + r.Message.Key + " "
					}
					if got != want[rows > 0] {
						t.Errorf("with %d rows of blocked keys: got %q, want %q", rows, got, want[rows > 0])
					}
				}
			})
		}
	}
}
