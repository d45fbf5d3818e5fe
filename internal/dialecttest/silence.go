package dialecttest

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
)

const (
	patience = 200 * time.Millisecond
	// Soon is how long after its context's end a call may return. It is what tells that from the 10 s after which others give up,
	// the engine and drivers that dial among them; the machine may stand still for seconds.
	Soon = 6 * time.Second
)

// ReturnsSoon checks that call ends with its context, and says so.
func ReturnsSoon(t *testing.T, what string, call func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begun := time.Now()
	err := call(ctx)
	if took := time.Since(begun); took > patience+Soon {
		t.Errorf("%s on a silent server returned after %v, want soon after its context ended (%v)", what, took, patience)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s on a silent server: got %v, want the context's error", what, err)
	}
}

// ClosesSoon checks that a session can be closed, whatever its server does.
func ClosesSoon(t *testing.T, s core.Session) {
	t.Helper()
	begun := time.Now()
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if took := time.Since(begun); took > Soon {
		t.Errorf("Close took %v", took)
	}
}

// SilentServerHangsNobody makes each call of a session on a server that is silent. through returns a dialect, on an outbox that
// is migrated, and the proxy that it goes through.
func SilentServerHangsNobody(t *testing.T, through func(t *testing.T) (core.Dialect, *conformance.Proxy)) {
	t.Helper()
	for name, call := range SessionCalls {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, proxy := through(t)
			s := OpenSession(t, conformance.DialectFixture{Dialect: d})
			if err := call(t.Context(), s); err != nil {
				t.Fatalf("%s on a live server: %v", name, err)
			}
			proxy.Freeze()
			ReturnsSoon(t, name, func(ctx context.Context) error { return call(ctx, s) })
			if err := call(t.Context(), s); err == nil {
				t.Errorf("%s after an error: got nil, want that the session is over", name)
			}
			ClosesSoon(t, s)
		})
	}
}

// RunEndsBesideASilentServer lets a database go silent in the middle of everything, its connections open: Run ends in its drain
// time and its lease is another's for the taking. thaw undoes freeze where the direct way is frozen as well. The outbox holds
// events enough to be publishing.
func RunEndsBesideASilentServer(t *testing.T, o Outbox, freeze, thaw func()) {
	t.Helper()
	broker := &conformance.Recorder{}
	publishing := make(chan struct{}, 1_000_000)
	broker.Inject(func(conformance.PublishCall) conformance.PublishFault {
		publishing <- struct{}{}
		return conformance.PublishFault{}
	})
	const ttl, drain, release = time.Second, time.Second, time.Second // Run gives the lease up last, within a second
	relay, err := core.NewRelay(o.Through, broker, core.RelayConfig{LeaseTTL: ttl, DrainTimeout: drain, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	<-publishing
	freeze()
	cancel()
	begun := time.Now()
	err = <-ended // the test's time-out ends it otherwise
	t.Logf("result: Run returned after %v: %v", time.Since(begun).Round(time.Millisecond), err)
	var drained *core.DrainError
	if err != nil && !errors.As(err, &drained) {
		t.Errorf("Run: got %v, want nil or a DrainError", err)
	}
	if took := time.Since(begun); took > drain+release+Soon {
		t.Errorf("Run returned %v after it was told to, want at most its drain time of %v, and a second for the lease", took, drain)
	}
	thaw()
	sofar := len(broker.Stored())
	Enqueued(t, o.DialectFixture, core.Message{Topic: "t", Payload: []byte("after")})
	Started(t, o.Dialect, broker, core.RelayConfig{}) // its own lease may last
	Eventually(t, "another relay takes over and delivers the rest", func() (bool, error) {
		return Count(t, o.DialectFixture, `SELECT COUNT(*) FROM outbox`) == 0 && len(broker.Stored()) > sofar, nil
	})
}
