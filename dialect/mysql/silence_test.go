package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestOpenDBGivesUpASilentServer(t *testing.T) {
	const usual = 2 * time.Minute
	for parameters, want := range map[string][2]time.Duration{
		"":                                {usual, usual},
		"?readTimeout=0":                  {0, usual},
		"?readTimeout=1h&writeTimeout=0s": {time.Hour, 0},
		"?writeTimeout=0.5s":              {usual, time.Second / 2},
	} {
		for _, dsn := range []string{"u:p@tcp(h:1)/x" + parameters, "mysql://u:p@h/x" + parameters} {
			if read, write, err := mysql.PoolLimits(dsn); err != nil || read != want[0] || write != want[1] {
				t.Errorf("%s: the limits are %v and %v (%v), want %v", dsn, read, write, err, want)
			}
		}
	}
	short := func(c *mysqldriver.Config) { c.ReadTimeout = 100 * time.Millisecond }
	onBoth(t, func(t *testing.T, flavour flavour) {
		dsn, proxy := through(t, with(t, flavour.database(t), short))
		f := open(t, dsn, mysql.Config{})
		db, err := mysql.OpenDB(dsn)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		outbox := core.NewOutbox(f.Dialect, core.OutboxConfig{})
		err = outbox.InTx(context.Background(), db, core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
			proxy.Freeze()
			return []core.Message{{Topic: "t"}}, nil
		})
		if err == nil || errors.Is(err, core.ErrCommitUnknown) {
			t.Errorf("an event for a silent server: got %v, want an error before the commit", err) // the test's time-out ends it otherwise
		}
		if err := db.PingContext(context.Background()); err == nil {
			t.Error("a silent server took a new connection")
		}
	})
}

// A database that goes silent in the middle of everything, its connections open: Run ends in its drain time and its lease is
// another's for the taking. Frozen is the network, or the server itself.
func TestRunEndsBesideASilentServer(t *testing.T) {
	for name, freeze := range map[string]func(t *testing.T, flavour flavour, proxy *conformance.Proxy){
		"network": func(_ *testing.T, _ flavour, proxy *conformance.Proxy) { proxy.Freeze() },
		"server":  func(t *testing.T, flavour flavour, _ *conformance.Proxy) { servers.Control(t, "pause", flavour.server) },
	} {
		for _, flavour := range flavours { // one after the other: a server that is frozen is so for everybody
			t.Run(name+", "+flavour.name, func(t *testing.T) {
				direct := flavour.database(t)
				f := open(t, direct, mysql.Config{})
				dsn, proxy := through(t, direct)
				fill(t, f, 2000, 100, "x")
				broker := &conformance.Recorder{}
				publishing := make(chan struct{}, 1_000_000)
				broker.Inject(func(conformance.PublishCall) conformance.PublishFault {
					publishing <- struct{}{}
					return conformance.PublishFault{}
				})
				const ttl, drain, release = time.Second, time.Second, time.Second // Run gives the lease up last, within a second
				relay, err := core.NewRelay(dialect(t, dsn, mysql.Config{}), broker,
					core.RelayConfig{LeaseTTL: ttl, DrainTimeout: drain, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- relay.Run(ctx) }()
				<-publishing
				freeze(t, flavour, proxy)
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
					servers.Control(t, "resume", flavour.server)
				}
				sofar := len(broker.Stored())
				execute(t, f, `INSERT INTO outbox (topic, payload) VALUES ('t', 'after')`)
				started(t, f.Dialect, broker, core.RelayConfig{LeaseTTL: ttl})
				eventually(t, "another relay takes over and delivers the rest", func() bool {
					var left int
					err := f.DB.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM outbox`).Scan(&left)
					return err == nil && left == 0 && len(broker.Stored()) > sofar
				})
			})
		}
	}
}
