package postgres_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// What is due at once may be more than the server moves in the time that a promotion has: large events, or a slow disk, for
// which a trigger stands in. It must not fail for ever.
func TestAPromotionOfMuchGetsDone(t *testing.T) {
	t.Parallel()
	const n = 200
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	execute(t, f, `CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.01); RETURN NEW; END'`,
		`CREATE TRIGGER slowly BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION slowly()`,
		`INSERT INTO outbox_delayed (topic, payload, not_before) SELECT 't', '', now() FROM generate_series(1, 200)`)
	tries := 0
	for moved := 0; moved < n; tries++ {
		p, err := openSession(t, f).Promote(t.Context(), 0, n)
		if err != nil && tries > 100 {
			t.Fatalf("%d of %d were moved in %d tries: %v", moved, n, tries, err)
		}
		moved += p.Moved
	}
	if tries < 2 {
		t.Error("all was moved at once, which shows nothing")
	}
	if got := len(fetchAll(t, openSession(t, f)).Records); got != n {
		t.Errorf("the outbox holds %d events, want %d", got, n)
	}
}
