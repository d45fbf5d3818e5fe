package mysql_test

import (
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
)

// With 300 bytes of payload.
func BenchmarkFetchAndAcknowledge(b *testing.B) {
	for _, flavour := range flavours {
		b.Run(flavour.name, func(b *testing.B) {
			f := open(b, flavour.database(b), mysql.Config{})
			dialecttest.FetchAndAcknowledge(b, openSession(b, f), func(events int) { fill(b, f, events, 1000, strings.Repeat("x", 300)) })
		})
	}
}
