package postgres_test

import (
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
