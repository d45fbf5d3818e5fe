package postgres_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Frozen is the network, or the server itself.
func TestRunEndsBesideASilentServer(t *testing.T) {
	for _, frozen := range []string{"network", "server"} { // one after the other: a server that is frozen is so for everybody
		t.Run(frozen, func(t *testing.T) {
			o := reached(t, postgres.Config{})
			execute(t, o.DialectFixture, `INSERT INTO outbox (topic, key, payload) SELECT 't', i % 100, 'x' FROM generate_series(1, 2000) AS i`)
			freeze, thaw := o.Proxy.Freeze, func() {}
			if frozen == "server" {
				freeze = func() { servers.Control(t, "pause", "postgres") }
				thaw = func() { servers.Control(t, "resume", "postgres") }
			}
			dialecttest.RunEndsBesideASilentServer(t, o, freeze, thaw)
		})
	}
}
