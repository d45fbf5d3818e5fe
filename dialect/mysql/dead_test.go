package mysql_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

func TestTwinsAreTwoDeadLetters(t *testing.T) {
	for _, flavour := range flavours {
		t.Run(flavour.name, func(t *testing.T) {
			dialecttest.TwinsAreTwoDeadLetters(t, func(t *testing.T) conformance.DialectFixture {
				return open(t, flavour.database(t), mysql.Config{})
			})
		})
	}
}
