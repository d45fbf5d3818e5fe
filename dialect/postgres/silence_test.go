package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// A database that goes silent in the middle of everything, its connections open: Run ends in its drain time and its lease is
// another's for the taking. Frozen is the network, or the server itself.
func TestRunEndsBesideASilentServer(t *testing.T) {
	for name, freeze := range map[string]func(t *testing.T, proxy *conformance.Proxy){
		"network": func(_ *testing.T, proxy *conformance.Proxy) { proxy.Freeze() },
		"server":  func(t *testing.T, _ *conformance.Proxy) { servers.Control(t, "pause", "postgres") },
	} {
		t.Run(name, func(t *testing.T) { // one after the other: a server that is frozen is so for everybody
			direct := servers.PostgresSchema(t)
			f := open(t, direct, postgres.Config{})
			dsn, proxy := through(t, direct)
			execute(t, f, `INSERT INTO outbox (topic, key, payload) SELECT 't', i % 100, 'x' FROM generate_series(1, 2000) AS i`)
			broker := &conformance.Recorder{}
			publishing := make(chan struct{}, 1_000_000)
			broker.Inject(func(conformance.PublishCall) conformance.PublishFault {
				publishing <- struct{}{}
				return conformance.PublishFault{}
			})
			const ttl, drain, release = time.Second, time.Second, time.Second // Run gives the lease up last, within a second
			relay, err := core.NewRelay(dialect(t, dsn, postgres.Config{}), broker,
				core.RelayConfig{LeaseTTL: ttl, DrainTimeout: drain, Logger: silent})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- relay.Run(ctx) }()
			<-publishing
			freeze(t, proxy)
			cancel()
			begun := time.Now()
			err = <-ended // the test's time-out ends it otherwise
			t.Logf("Run returned after %v: %v", time.Since(begun).Round(time.Millisecond), err)
			var drained *core.DrainError
			if err != nil && !errors.As(err, &drained) {
				t.Errorf("Run: got %v, want nil or a DrainError", err)
			}
			if took := time.Since(begun); took > drain+release+soon {
				t.Errorf("Run returned %v after it was told to, want at most its drain time of %v, and a second for the lease", took, drain)
			}
			if name == "server" {
				servers.Control(t, "resume", "postgres")
			}
			sofar := len(broker.Stored())
			execute(t, f, `INSERT INTO outbox (topic, payload) VALUES ('t', 'after')`)
			started(t, f.Dialect, broker, core.RelayConfig{LeaseTTL: ttl})
			eventually(t, "another relay takes over and delivers the rest", func() (done bool, err error) {
				err = f.DB.QueryRowContext(t.Context(), `SELECT NOT EXISTS (SELECT FROM outbox)`).Scan(&done)
				return done && len(broker.Stored()) > sofar, err
			})
		})
	}
}
