package postgres_test

import (
	"fmt"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestTwinsAreTwoDeadLetters(t *testing.T) {
	t.Parallel()
	dialecttest.TwinsAreTwoDeadLetters(t, func(t *testing.T) conformance.DialectFixture {
		return open(t, servers.PostgresSchema(t), postgres.Config{})
	})
}

func TestARetryGoesPastWhatCannotGoBack(t *testing.T) {
	t.Parallel()
	dialecttest.ARetryGoesPastWhatCannotGoBack(t, open(t, servers.PostgresSchema(t), postgres.Config{}))
}

func TestTwinsDroppedAtOnceLeaveNoBlock(t *testing.T) {
	t.Parallel()
	f := open(t, servers.PostgresSchema(t), postgres.Config{})
	control := dialecttest.Count(t, f, `SELECT 'outbox_control'::regclass::oid::bigint`)
	// One waits for the row of the table, and who comes next for the turn to do so.
	dialecttest.TwinsDroppedAtOnceLeaveNoBlock(t, f, fmt.Sprintf(`SELECT count(DISTINCT pid) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND pid IN (SELECT pid FROM pg_locks WHERE relation = %d)`, control))
}
