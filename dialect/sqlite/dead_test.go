package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

func TestTwinsAreTwoDeadLetters(t *testing.T) {
	t.Parallel()
	dialecttest.TwinsAreTwoDeadLetters(t, func(t *testing.T) conformance.DialectFixture {
		return fixture(t, filepath.Join(t.TempDir(), "outbox.db"), "")
	})
}

func TestARetryGoesPastWhatCannotGoBack(t *testing.T) {
	t.Parallel()
	dialecttest.ARetryGoesPastWhatCannotGoBack(t, fixture(t, filepath.Join(t.TempDir(), "outbox.db"), ""))
}
