package mysql_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

func TestTwinsAreTwoDeadLetters(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		f := open(t, flavour.database(t), mysql.Config{})
		dialecttest.TwinsAreTwoDeadLetters(t, func(t *testing.T) conformance.DialectFixture {
			emptied(t, f, "")
			return f
		})
	})
}

func TestARetryGoesPastWhatCannotGoBack(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		dialecttest.ARetryGoesPastWhatCannotGoBack(t, open(t, flavour.database(t), mysql.Config{}))
	})
}

func TestTwinsDroppedAtOnceLeaveNoBlock(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, flavour flavour) {
		dialecttest.TwinsDroppedAtOnceLeaveNoBlock(t, open(t, flavour.database(t), mysql.Config{}), `SELECT COUNT(*)
FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() AND info LIKE '%UPDATE%'`)
	})
}
