package mysql_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/dialecttest"
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
		for begun := false; !begun; { // a busy server may be taken for a silent one
			err = outbox.InTx(context.Background(), db, core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
				begun = true
				proxy.Freeze()
				return []core.Message{{Topic: "t"}}, nil
			})
		}
		if err == nil || errors.Is(err, core.ErrCommitUnknown) {
			t.Errorf("an event for a silent server: got %v, want an error before the commit", err) // the test's time-out ends it otherwise
		}
		if err := db.PingContext(context.Background()); err == nil {
			t.Error("a silent server took a new connection")
		}
	})
}

// Frozen is the network, or the server itself.
func TestRunEndsBesideASilentServer(t *testing.T) {
	each(t, "network", func(t *testing.T, flavour flavour) {
		o := reached(t, flavour, mysql.Config{})
		fill(t, o.DialectFixture, 2000, 100, "x")
		dialecttest.RunEndsBesideASilentServer(t, o, o.Proxy.Freeze, func() {})
	})
	for _, flavour := range flavours { // one after the other: a server that is frozen is so for everybody
		t.Run("server/"+flavour.name, func(t *testing.T) {
			o := reached(t, flavour, mysql.Config{})
			fill(t, o.DialectFixture, 2000, 100, "x")
			dialecttest.RunEndsBesideASilentServer(t, o, func() { servers.Control(t, "pause", flavour.server) },
				func() { servers.Control(t, "resume", flavour.server) })
		})
	}
}
