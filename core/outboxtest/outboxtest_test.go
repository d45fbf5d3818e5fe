package outboxtest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/core/outboxtest"
	"github.com/lockstep-go/lockstep/dialect/sqlite"
)

// inner is the dialect behind a recorder: it fails when told to, and holds n events.
type inner struct {
	core.Dialect
	err  error
	n    int
	page int
}

func (d *inner) Enqueue(context.Context, core.Execer, []core.Message) error { return d.err }

func (d *inner) Open(context.Context) (core.Session, error) { return &session{d: d}, d.err }

type session struct {
	core.Session
	d *inner
}

func (s *session) Close() error { return nil }

func (s *session) Fetch(_ context.Context, request core.FetchRequest) (core.FetchResult, error) {
	if request.Limit < 1 || request.MaxBytes < 1 {
		return core.FetchResult{}, fmt.Errorf("bad request %+v", request)
	}
	var result core.FetchResult
	for p := request.After + 1; p <= int64(s.d.n); p++ {
		if len(result.Records) == s.d.page {
			result.More = true
			break
		}
		result.Records = append(result.Records, core.Record{Position: p, Message: core.Message{ID: fmt.Sprint(p)}})
	}
	return result, nil
}

func enqueue(t *testing.T, r *outboxtest.Recorder, tx core.Execer, ids ...string) {
	t.Helper()
	for _, id := range ids {
		err := core.NewOutbox(r, core.OutboxConfig{}).Enqueue(t.Context(), tx, core.Message{ID: id, Topic: "t"})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func ids(msgs []core.Message) string {
	var s []string
	for _, m := range msgs {
		s = append(s, m.ID)
	}
	return strings.Join(s, " ")
}

func expect(t *testing.T, what string, got []core.Message, want string) {
	t.Helper()
	if ids(got) != want {
		t.Errorf("%s: got %q, want %q", what, ids(got), want)
	}
}

func TestRecorderTellsTransactionsApart(t *testing.T) {
	r := outboxtest.NewRecorder()
	expect(t, "Last of nothing", r.Last(), "")
	a, b := new(sql.Tx), new(sql.Tx)
	enqueue(t, r, a, "a1")
	enqueue(t, r, b, "b1")
	enqueue(t, r, a, "a2", "a3")
	expect(t, "All", r.All(), "a1 b1 a2 a3")
	expect(t, "Enqueued(a)", r.Enqueued(a), "a1 a2 a3")
	expect(t, "Enqueued(b)", r.Enqueued(b), "b1")
	expect(t, "Enqueued(another)", r.Enqueued(new(sql.Tx)), "")
	expect(t, "Last", r.Last(), "a1 a2 a3")
	r.Reset()
	expect(t, "All after Reset", r.All(), "")
}

func TestRecorderTakesTransactionsThatCannotBeCompared(t *testing.T) {
	r := outboxtest.NewRecorder()
	f := core.ExecFunc(func(context.Context, string, ...any) error { return nil })
	enqueue(t, r, new(sql.Tx), "x")
	enqueue(t, r, f, "1", "2")
	expect(t, "All", r.All(), "x 1 2")
	expect(t, "Last", r.Last(), "2")
	expect(t, "Enqueued(another)", r.Enqueued(new(sql.Tx)), "")
	defer func() {
		if recover() == nil {
			t.Error("Enqueued(ExecFunc) answered, want a panic: it cannot know")
		}
	}()
	r.Enqueued(f)
}

func TestRecorderKeepsCopies(t *testing.T) {
	r := outboxtest.NewRecorder()
	m := core.Message{ID: "1", Topic: "t", Headers: map[string]string{"h": "v"}, Payload: []byte("payload")}
	if err := core.NewOutbox(r, core.OutboxConfig{}).Enqueue(t.Context(), new(sql.Tx), m); err != nil {
		t.Fatal(err)
	}
	want := core.Message{ID: "1", Topic: "t", Headers: map[string]string{"h": "v"}, Payload: []byte("payload")}
	m.Headers["h"], m.Payload[0] = "changed", 'X'
	got := r.All()
	if err := outboxtest.Compare(got, want); err != nil {
		t.Errorf("after the caller changed its message: %v", err)
	}
	got[0].Headers["h"], got[0].Payload[0] = "changed", 'X'
	if err := outboxtest.Compare(r.All(), want); err != nil {
		t.Errorf("after the test changed what All returned: %v", err)
	}
}

func TestRecorderPassesOnToTheDialectBehindIt(t *testing.T) {
	refused := errors.New("refused")
	r := outboxtest.Wrap(&inner{err: refused})
	err := core.NewOutbox(r, core.OutboxConfig{}).Enqueue(t.Context(), new(sql.Tx), core.Message{Topic: "t"})
	if !errors.Is(err, refused) {
		t.Errorf("Enqueue: got %v, want the dialect's error", err)
	}
	if got := r.All(); len(got) != 0 {
		t.Errorf("All: got %v, want nothing: it was refused", got)
	}
}

func TestRecorderHasTheKeyLocksOfTheDialectBehindIt(t *testing.T) {
	config := core.OutboxConfig{LockKeys: true}
	m := core.Message{Topic: "t", Key: "k"}
	if err := core.NewOutbox(outboxtest.NewRecorder(), config).Enqueue(t.Context(), new(sql.Tx), m); err != nil {
		t.Errorf("NewRecorder: got %v, want nil", err)
	}
	err := core.NewOutbox(outboxtest.Wrap(&inner{}), config).Enqueue(t.Context(), new(sql.Tx), m)
	if !errors.Is(err, core.ErrNoKeyLocks) {
		t.Errorf("Wrap of a dialect without key locks: got %v, want ErrNoKeyLocks", err)
	}
}

// The two halves on a real database: what was enqueued, and what became of it.
func TestEnqueuedIsNotCommitted(t *testing.T) {
	dialect, err := sqlite.Open(filepath.Join(t.TempDir(), "shop.db"), sqlite.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer dialect.Close()
	if err := dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := outboxtest.Wrap(dialect)
	for id, end := range map[string]func(*sql.Tx) error{"kept": (*sql.Tx).Commit, "undone": (*sql.Tx).Rollback} {
		tx, err := dialect.DB().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		enqueue(t, r, tx, id)
		expect(t, "Enqueued", r.Enqueued(tx), id)
		if err := end(tx); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.All()); n != 2 {
		t.Errorf("All: got %d messages, want both", n)
	}
	got, err := outboxtest.Committed(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "Committed", got, "kept")
}

func TestCompare(t *testing.T) {
	base := core.Message{
		ID: "1", Topic: "orders", Key: "42", Payload: []byte("{}"),
		Headers: map[string]string{"h": "v", "traceparent": "x"}, NotBefore: time.Unix(1, 1000),
	}
	tests := []struct {
		name string
		edit func(*core.Message)
		want string // what the error says; empty for none
	}{
		{"equal", func(*core.Message) {}, ""},
		{"no id", func(m *core.Message) { m.ID = "" }, ""},
		{"fewer headers", func(m *core.Message) { m.Headers = map[string]string{"h": "v"} }, ""},
		{"time in another zone", func(m *core.Message) { m.NotBefore = time.Unix(1, 1).UTC() }, ""},
		{"id", func(m *core.Message) { m.ID = "2" }, `ID is "1", want "2"`},
		{"topic", func(m *core.Message) { m.Topic = "x" }, `Topic is "orders", want "x"`},
		{"key", func(m *core.Message) { m.Key = "" }, `Key is "42", want ""`},
		{"header", func(m *core.Message) { m.Headers = map[string]string{"h": "w"} }, `header "h" is "v", want "w"`},
		{"no header", func(m *core.Message) { m.Headers = map[string]string{"i": ""} }, `header "i" is missing, want ""`},
		{"payload", func(m *core.Message) { m.Payload = nil }, `Payload is "{}", want ""`},
		{"time", func(m *core.Message) { m.NotBefore = time.Time{} }, `NotBefore is`},
	}
	for _, tt := range tests {
		want := base
		tt.edit(&want)
		err := outboxtest.Compare([]core.Message{base}, want)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestCompareCounts(t *testing.T) {
	a, b := core.Message{Topic: "a"}, core.Message{Topic: "b"}
	for want, err := range map[string]error{
		`message 1: got one with Topic "b"`:  outboxtest.Compare([]core.Message{a, b}, a),
		`message 1: got no more messages`:    outboxtest.Compare([]core.Message{a}, a, b),
		`message 0: Topic is "b", want "a"`:  outboxtest.Compare([]core.Message{b, a}, a, b),
		`message 0: got one with Topic "a"`:  outboxtest.Compare([]core.Message{a}),
		`Payload from byte 300 on is "x", w`: outboxtest.Compare(long("x"), long("y")...),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want an error with %s", err, want)
		}
	}
	if err := outboxtest.Compare(nil); err != nil {
		t.Errorf("nothing and nothing: got %v", err)
	}
}

func long(end string) []core.Message {
	return []core.Message{{Payload: []byte(strings.Repeat("-", 300) + end)}}
}

func TestCommittedReadsPageByPage(t *testing.T) {
	got, err := outboxtest.Committed(t.Context(), &inner{n: 5, page: 2})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "Committed", got, "1 2 3 4 5")
	if got, err := outboxtest.Committed(t.Context(), &inner{page: 2}); err != nil || len(got) != 0 {
		t.Errorf("Committed of nothing: got %v, %v", got, err)
	}
	if _, err := outboxtest.Committed(t.Context(), outboxtest.NewRecorder()); err == nil {
		t.Error("Committed of a recorder that writes nothing: got nil, want an error")
	}
}
