package config_test

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// lateBroker is a fake whose terms begin when it has no error for them.
type lateBroker struct {
	orderedBroker
	why   *atomic.Pointer[error]
	begun *atomic.Int32
}

func (b lateBroker) ForTerm(context.Context, core.Term) (core.Broker, error) {
	if why := b.why.Load(); why != nil {
		return nil, *why
	}
	b.begun.Add(1)
	return b.orderedBroker, nil
}

// A broker that is away when the term begins leaves the others theirs. Nothing is sent to it before the term has begun there too.
func TestATermBeginsWithoutABrokerThatIsAway(t *testing.T) {
	t.Parallel()
	var why atomic.Pointer[error]
	var begun atomic.Int32
	b := newBench()
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
		broker := &fakeBroker{name: u.Host, closed: &b.closed}
		b.brokers[u.Host] = broker
		return lateBroker{orderedBroker{broker}, &why, &begun}, nil
	}, "late")
	opened, err := b.open(t, "database: fake:x\nbroker: ordered://mail\nroutes: [{topics: orders, broker: 'late://orders'}]\n")
	if err != nil {
		t.Fatal(err)
	}
	begin := func() (core.Broker, error) {
		return opened.Outboxes[0].Broker.(core.TermBroker).ForTerm(t.Context(), core.Term{})
	}
	away := errors.New("is away")
	why.Store(&away)
	broker, err := begin()
	if err != nil {
		t.Fatalf("begin the term: %v", err)
	}
	if _, ordered := core.Ability[core.KeyOrdered](broker); !ordered {
		t.Error("what waits for its term has lost its abilities")
	}
	results := core.Results(broker.Publish(t.Context(), messages("orders", "mail", "orders")), 3)
	for i, wanted := range []error{core.ErrUnavailable, nil, core.ErrUnavailable} {
		if !errors.Is(results[i], wanted) {
			t.Errorf("message %d: got %v, want %v", i, results[i], wanted)
		}
	}
	if n := len(b.brokers["orders"].calls); n != 0 {
		t.Errorf("%d calls are sent to a broker whose term has not begun", n)
	}
	why.Store(nil)
	for range 2 {
		if err := broker.Publish(t.Context(), messages("orders", "mail")); err != nil {
			t.Errorf("when it is back: %v", err)
		}
	}
	if n := len(b.brokers["orders"].calls); n != 2 || begun.Load() != 1 {
		t.Errorf("%d calls in %d terms, want 2 in 1", n, begun.Load())
	}
	why.Store(&away)
	if broker, err = begin(); err != nil {
		t.Fatal(err)
	}
	fenced := error(core.ErrFenced)
	why.Store(&fenced)
	if err := broker.Publish(t.Context(), messages("orders")); !errors.Is(err, core.ErrFenced) {
		t.Errorf("got %v, want that a newer owner has shut this one out", err)
	}
	if _, err := begin(); !errors.Is(err, core.ErrFenced) {
		t.Errorf("got %v, want that a newer owner has shut this one out", err)
	}
}

// termFunc is a fake whose terms begin as it says.
type termFunc struct {
	orderedBroker
	begin func(ctx context.Context) error
}

func (b termFunc) ForTerm(ctx context.Context, _ core.Term) (core.Broker, error) {
	return b.orderedBroker, b.begin(ctx)
}

// A broker that answers nothing takes all the time there is for a term to begin: the others begin beside it, wherever it stands. One
// that panics is as one that is away.
func TestATermBeginsBesideABrokerThatHangs(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"broker: hangs://a\nroutes: [{topics: orders, broker: 'there://b'}]\n",
		"broker: there://b\nroutes: [{topics: mail, broker: 'hangs://a'}]\n",
		"broker: panics://a\nroutes: [{topics: orders, broker: 'there://b'}]\n",
	} {
		b, begun := newBench(), make(chan struct{})
		begins := map[string]func(ctx context.Context) error{
			"there":  func(context.Context) error { close(begun); return nil },
			"panics": func(context.Context) error { panic("is broken") },
			"hangs": func(ctx context.Context) error {
				select {
				case <-begun:
				case <-ctx.Done():
					t.Errorf("%s: the other's term did not begin beside it", content)
				}
				return errors.New("has not answered")
			},
		}
		b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
			return termFunc{orderedBroker{&fakeBroker{name: u.Host, closed: &b.closed}}, begins[u.Scheme]}, nil
		}, "there", "hangs", "panics")
		opened, err := b.open(t, "database: fake:x\n"+content)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // never over, or the test fails
		broker, err := opened.Outboxes[0].Broker.(core.TermBroker).ForTerm(ctx, core.Term{})
		cancel()
		if err != nil {
			t.Fatalf("%s: begin the term: %v", content, err)
		}
		if err := broker.Publish(t.Context(), messages("orders")); err != nil {
			t.Errorf("%s: publish where the term has begun: %v", content, err)
		}
	}
}

// Where no broker is there the term does not begin: what the relay says of it is then the cause.
func TestATermDoesNotBeginWhereAllAreAway(t *testing.T) {
	t.Parallel()
	var why atomic.Pointer[error]
	away := errors.New("is away")
	why.Store(&away)
	b := newBench()
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
		return lateBroker{orderedBroker{&fakeBroker{name: u.Host, closed: &b.closed}}, &why, nil}, nil
	}, "late")
	opened, err := b.open(t, "database: fake:x\nbroker: late://a\nroutes: [{topics: orders, broker: 'late://b'}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Outboxes[0].Broker.(core.TermBroker).ForTerm(t.Context(), core.Term{}); !errors.Is(err, away) {
		t.Errorf("got %v, want %v", err, away)
	}
}
