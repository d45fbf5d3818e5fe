package config_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/core"
)

// fakeDialect is a dialect that only opens and closes.
type fakeDialect struct {
	config.Dialect
	closed *int
}

func (d fakeDialect) Close() error { *d.closed++; return nil }

// fakeBroker notes what it is given, and answers as it is told.
type fakeBroker struct {
	name   string
	answer func(msgs []core.Message) error
	closed *int

	mu    sync.Mutex
	calls [][]string // topics
}

func (b *fakeBroker) Publish(_ context.Context, msgs []core.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var topics []string
	for _, m := range msgs {
		topics = append(topics, m.Topic)
	}
	b.calls = append(b.calls, topics)
	if b.answer == nil {
		return nil
	}
	return b.answer(msgs)
}

func (b *fakeBroker) Close() error { *b.closed++; return nil }

type orderedBroker struct{ *fakeBroker }

func (orderedBroker) KeyOrdered() {}

// termBroker has a broker of its own for each term.
type termBroker struct {
	*fakeBroker
	terms *[]core.Term
}

func (b termBroker) ForTerm(_ context.Context, term core.Term) (core.Broker, error) {
	*b.terms = append(*b.terms, term)
	return b.fakeBroker, nil
}

// bench is a registry of fakes.
type bench struct {
	registry *config.Registry
	brokers  map[string]*fakeBroker
	terms    []core.Term
	closed   int
}

func newBench() *bench {
	b := &bench{registry: config.NewRegistry(), brokers: map[string]*fakeBroker{}}
	b.registry.Dialect(func(u *url.URL, options config.Options) (config.Dialect, error) {
		if options.Schema != "" {
			return nil, errors.New("has no schemas")
		}
		return fakeDialect{closed: &b.closed}, nil
	}, "fake")
	open := func(u *url.URL) *fakeBroker {
		broker := &fakeBroker{name: u.Host, closed: &b.closed}
		b.brokers[u.Host] = broker
		return broker
	}
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) { return open(u), nil }, "plain")
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) { return orderedBroker{open(u)}, nil }, "ordered")
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) { return termBroker{open(u), &b.terms}, nil }, "term")
	return b
}

func (b *bench) open(t *testing.T, content string) (*config.Opened, error) {
	t.Helper()
	c, err := load(t, content, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return b.registry.Open(c, slog.New(slog.DiscardHandler))
}

func messages(topics ...string) []core.Message {
	var msgs []core.Message
	for _, topic := range topics {
		msgs = append(msgs, core.Message{Topic: topic})
	}
	return msgs
}

const twoBrokers = "database: fake:x\nbroker: plain://main\nroutes: [{topics: 'audit.*', broker: plain://audit}, {topics: '*.log', broker: plain://log}]\n"

func TestTopicsAreRouted(t *testing.T) {
	t.Parallel()
	b := newBench()
	opened, err := b.open(t, twoBrokers)
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Outboxes[0].Broker.Publish(t.Context(), messages("orders", "audit.log", "audits", "shop.log", "audit.")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{"main": {"orders", "audits"}, "audit": {"audit.log", "audit."}, "log": {"shop.log"}} {
		if got := b.brokers[name].calls; len(got) != 1 || !slices.Equal(got[0], want) {
			t.Errorf("%s got %v, want %v", name, got, want)
		}
	}
}

// What one broker says is about its own messages and no other's.
func TestOneBrokersAnswerIsItsOwn(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	for _, tt := range []struct {
		name   string
		answer func(msgs []core.Message) error
		want   []error // of audit.a, orders, audit.b
	}{
		{"stored", nil, nil},
		{"one refused", func([]core.Message) error { return &core.BatchError{Results: []error{nil, refused}} }, []error{nil, nil, refused}},
		{"unavailable", func([]core.Message) error { return core.ErrUnavailable }, []error{core.ErrUnavailable, nil, core.ErrUnavailable}},
		{"unknown", func([]core.Message) error { return refused }, []error{core.ErrUncertain, nil, core.ErrUncertain}},
		{"short", func([]core.Message) error { return &core.BatchError{Results: []error{nil}} }, []error{core.ErrUncertain, nil, core.ErrUncertain}},
		{"panic", func([]core.Message) error { panic("broken") }, []error{core.ErrUncertain, nil, core.ErrUncertain}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBench()
			opened, err := b.open(t, twoBrokers)
			if err != nil {
				t.Fatal(err)
			}
			b.brokers["audit"].answer = tt.answer
			got := core.Results(opened.Outboxes[0].Broker.Publish(t.Context(), messages("audit.a", "orders", "audit.b")), 3)
			for i, want := range append(tt.want, nil, nil, nil)[:3] {
				if !errors.Is(got[i], want) {
					t.Errorf("message %d: got %v, want %v", i, got[i], want)
				}
			}
		})
	}
}

// A router may claim the order within a call only where every broker behind it keeps it.
func TestRoutersAbilities(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]bool{
		"database: fake:x\nbroker: ordered://a\n":                                               true,
		"database: fake:x\nbroker: ordered://a\nroutes: [{topics: b, broker: 'ordered://b'}]\n": true,
		"database: fake:x\nbroker: ordered://a\nroutes: [{topics: b, broker: 'plain://b'}]\n":   false,
		"database: fake:x\nbroker: plain://a\nroutes: [{topics: b, broker: 'ordered://b'}]\n":   false,
	} {
		opened, err := newBench().open(t, content)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := core.Ability[core.KeyOrdered](opened.Outboxes[0].Broker); got != want {
			t.Errorf("%s: KeyOrdered is %v, want %v", content, got, want)
		}
	}
}

func TestTermsReachTheBrokersThatWantThem(t *testing.T) {
	t.Parallel()
	b := newBench()
	opened, err := b.open(t, "database: fake:x\nbroker: plain://main\nroutes: [{topics: a, broker: term}, {topics: b, broker: term}]\nbrokers: {term: 'term://t'}\n")
	if err != nil {
		t.Fatal(err)
	}
	term := core.Term{Outbox: "o", Epoch: 3}
	broker, err := opened.Outboxes[0].Broker.(core.TermBroker).ForTerm(t.Context(), term)
	if err != nil || !slices.Equal(b.terms, []core.Term{term}) {
		t.Fatalf("got %v, terms %v, want one", err, b.terms)
	}
	if err := broker.Publish(t.Context(), messages("a", "c", "b")); err != nil {
		t.Fatal(err)
	}
	if got := b.brokers["t"].calls; len(got) != 1 || !slices.Equal(got[0], []string{"a", "b"}) {
		t.Errorf("the term's broker got %v", got)
	}
}

// dressed hides what the broker inside of it can do, but for Unwrap.
type dressed struct{ core.Broker }

func (d dressed) Unwrap() core.Broker { return d.Broker }

// What stands before the routes begins the terms, so the relay cannot see that one of them has a broker that hides it.
func TestAWrapperThatHidesTermsIsRefused(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"database: fake:x\nbroker: dressed://a\n",
		"database: fake:x\nbroker: plain://a\nroutes: [{topics: b, broker: 'dressed://b'}]\n",
	} {
		b := newBench()
		b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
			return dressed{termBroker{&fakeBroker{name: u.Host, closed: &b.closed}, &b.terms}}, nil
		}, "dressed")
		if _, err := b.open(t, content); err == nil || !strings.Contains(err.Error(), "let it implement ForTerm too") {
			t.Errorf("%s: got %v, want that the wrapper has to implement ForTerm", content, err)
		}
		if want := 1 + strings.Count(content, "://"); b.closed != want {
			t.Errorf("%s: %d closed, want %d: what is in a wrapper is closed too", content, b.closed, want)
		}
	}
}

// uncomparable is a broker by value that cannot be the key of a map.
type uncomparable struct {
	*fakeBroker
	_ []string
}

func TestABrokerThatCannotBeComparedIsRoutedTo(t *testing.T) {
	t.Parallel()
	b := newBench()
	b.registry.Broker(func(u *url.URL, _ *slog.Logger) (core.Broker, error) {
		return uncomparable{fakeBroker: &fakeBroker{name: u.Host, closed: &b.closed}}, nil
	}, "uncomparable")
	opened, err := b.open(t, "database: fake:x\nbroker: plain://a\nroutes: [{topics: b, broker: 'uncomparable://b'}]\n")
	if err != nil {
		t.Fatal(err)
	}
	if err := opened.Outboxes[0].Broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "a"}, {ID: "2", Topic: "b"}}); err != nil {
		t.Error(err)
	}
}

func TestBrokersByNameAreSharedAndClosedOnce(t *testing.T) {
	t.Parallel()
	b := newBench()
	opened, err := b.open(t, `
outboxes:
  - {name: a, database: "fake:a", broker: events}
  - {name: b, database: "fake:b", broker: events}
brokers: {events: "plain://e"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if opened.Outboxes[0].Broker != opened.Outboxes[1].Broker {
		t.Error("the broker was opened twice")
	}
	if err := opened.Close(); err != nil || b.closed != 3 {
		t.Errorf("got %v, %d closed, want 2 dialects and 1 broker", err, b.closed)
	}
}

// Brokers that differ in what is not shown are two all the same: each is known, by a name that a topic's route has, too.
func TestBrokersThatDifferInAPasswordAreTwo(t *testing.T) {
	t.Parallel()
	opened, err := newBench().open(t, `
database: fake:x
broker: plain://u:one@h
routes: [{topics: a, broker: "plain://u:two@h"}, {topics: b, broker: "plain://u:one@h"}, {topics: c, broker: "plain://u:three@h"}]
`)
	if err != nil {
		t.Fatal(err)
	}
	o := &opened.Outboxes[0]
	for topic, want := range map[string]string{"other": "plain://u:xxxxx@h", "a": "plain://u:xxxxx@h (2)", "b": "plain://u:xxxxx@h", "c": "plain://u:xxxxx@h (3)"} {
		name := o.RouteOf(topic)
		if name != want || o.Brokers[name] == nil {
			t.Errorf("topic %s goes to %s (%v), want %s", topic, name, o.Brokers[name], want)
			continue
		}
		before := len(o.Brokers[name].(*fakeBroker).calls)
		if err := o.Broker.Publish(t.Context(), messages(topic)); err != nil {
			t.Fatal(err)
		}
		if after := len(o.Brokers[name].(*fakeBroker).calls); after != before+1 {
			t.Errorf("%s is not the broker that topic %s went to", name, topic)
		}
	}
	if len(o.Brokers) != 3 {
		t.Errorf("got %d brokers, want 3", len(o.Brokers))
	}
}

func TestABrokerThatIsNotUsedHasAKnownScheme(t *testing.T) {
	t.Parallel()
	b := newBench()
	_, err := b.open(t, "database: fake:x\nbroker: plain://a\nbrokers:\n  x: kafak://u:hunter2@h\n")
	if err == nil || !strings.Contains(err.Error(), "lockstep.yaml:4: brokers.x: has the scheme kafak") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v, want that nobody knows kafak", err)
	}
	opened, err := b.open(t, "database: fake:x\nbroker: plain://a\nbrokers:\n  x: plain://b\n")
	if err != nil || len(opened.Outboxes[0].Brokers) != 1 || b.brokers["b"] != nil {
		t.Errorf("got %v, want it accepted and not opened", err)
	}
}

func TestOpenNamesEveryURLThatNobodyTakes(t *testing.T) {
	t.Parallel()
	b := newBench()
	_, err := b.open(t, `
outboxes:
  - {name: a, database: "fake:a", schema: s, broker: "nats://u:hunter2@h"}
  - {name: b, database: "oracle:b", broker: "plain://e"}
`)
	if err == nil {
		t.Fatal("got nil")
	}
	for _, want := range []string{
		"lockstep.yaml:3: outboxes[0].database: has no schemas",
		"lockstep.yaml:3: outboxes[0].broker: has the scheme nats, which no adapter here has: there are ordered, plain, term",
		"lockstep.yaml:4: outboxes[1].database: has the scheme oracle",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("a secret is in %v", err)
	}
	if b.closed != 1 {
		t.Errorf("%d closed, want the broker that was opened", b.closed)
	}
}

// What the file alone shows to be wrong and what only an adapter knows come at once, each with its line, and each once.
func TestLoadAsksTheAdaptersToo(t *testing.T) {
	t.Parallel()
	b := newBench()
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	content := `outboxes:
  - {name: a, database: "fake:a", schema: s, broker: events}
  - {name: b, database: "oracle:b", broker: events, relay: {lanes: -1}}
  - {name: c, database: "fake://u:%zz@h/", broker: evnts}
  - {name: d, database: "fake:d", broker: "plain://d"}
  - name: e
    routes:
      - {topics: audit, broker: "nats://u:hunter2@h"}
brokers:
  events: "nats://u:hunter2@h"
listen: here
`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	problems := func(source config.Source) (got []string) {
		t.Helper()
		_, err := b.registry.Load(source)
		var wrong *config.Error
		if !errors.As(err, &wrong) {
			t.Fatalf("got %v, want a *config.Error", err)
		}
		for _, p := range wrong.Problems {
			got = append(got, fmt.Sprintf("%d %s", p.Line, p.Field))
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a secret is in %v", err)
		}
		slices.Sort(got)
		return got
	}
	none := func(string) (string, bool) { return "", false }
	want := []string{
		"10 brokers.events", "11 listen", "2 outboxes[0].database", "3 outboxes[1].database", "3 outboxes[1].relay.lanes", "4 outboxes[2].broker", "4 outboxes[2].database",
		"6 outboxes[4].broker", "6 outboxes[4].database", "8 outboxes[4].routes[0].broker",
	}
	if got := problems(config.Source{File: file, Lookup: none}); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	want = slices.DeleteFunc(want, func(at string) bool {
		return strings.HasSuffix(at, "outboxes[4].broker") || strings.HasSuffix(at, "routes[0].broker") || strings.HasSuffix(at, "brokers.events")
	})
	if got := problems(config.Source{File: file, Lookup: none, NoBroker: true}); !slices.Equal(got, want) {
		t.Errorf("without brokers: got %q, want %q", got, want)
	}
	if b.closed != 3 {
		t.Errorf("%d closed, want the dialect twice and the broker once", b.closed)
	}
}
