package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lockstep-go/lockstep/broker/jsonlines"
	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// verifyAnswer is what --json prints, as far as the tests look.
type verifyAnswer struct {
	Outboxes []struct {
		Reports []struct {
			Report conformance.Report `json:"report"`
		} `json:"reports"`
		LeftBehind []string `json:"left_behind"`
	} `json:"outboxes"`
}

// A whole run takes half a minute, so small doses verify the broker alone, and the pair alone with a file.
func TestVerify(t *testing.T) {
	for name, broker := range map[string]func(t *testing.T) string{
		"file":      func(t *testing.T) string { return "file:" + filepath.Join(t.TempDir(), "events.jsonl") },
		"kafka":     func(t *testing.T) string { return "kafka://" + servers.Kafka(t) },
		"watermill": func(t *testing.T) string { return "watermill+kafka://" + servers.Kafka(t) },
		"rabbitmq":  func(t *testing.T) string { return servers.RabbitMQ(t) },
		"pipelined": func(t *testing.T) string { return servers.RabbitMQ(t) + "?pipelined=true" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it harms no connections but its own, and waits most of its time
			args := []string{"verify", "--json", "--database", databaseAddresses["sqlite"](t), "--broker", broker(t)}
			if dose.Of(t, true, false) {
				part := "broker"
				if name == "file" {
					part = "pair" // the broker's checks sync 100 MB to the disk, as package jsonlines' own test does
				}
				args = append(args, "--only", part)
			}
			expectVerified(t, args, name != "file")
		})
	}
}

// TestVerifyDatabases runs everything on every database in full doses. In small ones it runs the pair on MySQL: TestVerify does
// so on SQLite, and TestVerifyInASchema on PostgreSQL.
func TestVerifyDatabases(t *testing.T) {
	for _, name := range dose.Of(t, []string{"mysql"}, []string{"sqlite", "postgres", "mysql", "mariadb"}) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"verify", "--json", "--database", databaseAddresses[name](t), "--broker", "file:" + filepath.Join(t.TempDir(), "events.jsonl")}
			if dose.Of(t, true, false) {
				args = append(args, "--only", "pair")
			}
			expectVerified(t, args, false)
		})
	}
}

// The application's table goes where the outbox is, and is removed from there.
func TestVerifyInASchema(t *testing.T) {
	t.Parallel()
	address := servers.PostgresSchema(t)
	without, schema := servers.WithoutSchema(t, address)
	args := []string{"verify", "--json", "--database", without, "--schema", schema, "--broker", "file:" + filepath.Join(t.TempDir(), "events.jsonl")}
	if dose.Of(t, true, false) {
		args = append(args, "--only", "pair")
	}
	expectVerified(t, args, false)
	expectNothingOfVerify(t, address)
}

// expectVerified runs the command, and expects that nothing failed. Where harm can be done to the broker's connections,
// nothing that it adds may be missing.
func expectVerified(t *testing.T, args []string, harm bool) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, &stdout, &stderr)
	var got verifyAnswer
	if err := json.Unmarshal(stdout.Bytes(), &got); err != nil || len(got.Outboxes) != 1 {
		t.Fatalf("exit code %d, %v in %q; %s", code, err, &stdout, &stderr)
	}
	passed := 0
	for _, r := range got.Outboxes[0].Reports {
		passed += r.Report.Count(conformance.Passed)
		if err := r.Report.Err(); err != nil {
			t.Error(err)
		}
		for _, c := range r.Report.Checks {
			if (c.ID == "several-topics" || c.ID == "pair-takeover-overlap") && c.Status != conformance.Passed {
				t.Errorf("%s is %s: %s", c.ID, c.Status, c.Needs)
			}
			if harm && r.Report.Subject == "broker" && (c.Needs == "Outage" || c.Needs == "Cut" || c.Needs == "Freeze") {
				t.Errorf("%s was not exercised: %s", c.ID, c.Needs)
			}
		}
	}
	if code != exitOK || passed == 0 || len(got.Outboxes[0].LeftBehind) > 0 {
		t.Errorf("got exit code %d, %d checks passed, left behind %q: %s", code, passed, got.Outboxes[0].LeftBehind, &stderr)
	}
}

// signalWriter calls told at the first write that holds the text.
type signalWriter struct {
	mu   sync.Mutex
	got  bytes.Buffer
	text string
	told func()
}

func (w *signalWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.got.Write(p)
	if w.told != nil && strings.Contains(w.got.String(), w.text) {
		w.told()
		w.told = nil
	}
	return len(p), nil
}

// An interrupt in the middle leaves nothing, and the configured outbox is as it was.
func TestVerifyInterrupted(t *testing.T) {
	for name, address := range databaseAddresses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database, dir := address(t), t.TempDir()
			dialect, err := all.Registry().OpenDialect(config.NewURL(database), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer dialect.Close()
			if err := dialect.Migrate(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := outboxOf(t, dialect)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			stderr := &signalWriter{text: "at check ", told: interrupt}
			code := run(ctx, []string{"verify", "--database", database, "--broker", "file:" + filepath.Join(dir, "events.jsonl")}, io.Discard, stderr)
			if text := stderr.got.String(); code != exitFailure || !strings.HasSuffix(text, "lockstep: interrupted\n") || !strings.Contains(text, "verify: database: at check ") {
				t.Errorf("got exit code %d and %q", code, text)
			}
			if after := outboxOf(t, dialect); after != before {
				t.Errorf("the configured outbox is %q, and was %q", after, before)
			}
			expectNothingOfVerify(t, database, dir)
		})
	}
}

// outboxOf is what must not change.
func outboxOf(t *testing.T, dialect config.Dialect) string {
	t.Helper()
	stats, lease, err := readOutbox(t.Context(), dialect)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(stats, lease.Outbox, lease.Epoch)
}

// expectNothingOfVerify looks for tables and files.
func expectNothingOfVerify(t *testing.T, database string, dirs ...string) {
	t.Helper()
	if path, ok := strings.CutPrefix(database, "sqlite:"); ok {
		dirs = append(dirs, filepath.Dir(path))
	} else {
		db := applicationPool(t, database)
		schema := "DATABASE()"
		if strings.HasPrefix(database, "postgres") {
			schema = "current_schema()"
		}
		rows, err := db.QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'lockstep_verify_%' AND table_schema = "+schema)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				t.Fatal(err)
			}
			t.Errorf("the table %s is left", name)
		}
		if err := rows.Err(); err != nil {
			t.Error(err)
		}
	}
	for _, dir := range dirs {
		left, err := filepath.Glob(filepath.Join(dir, "lockstep_verify_*"))
		if err != nil || len(left) > 0 {
			t.Errorf("%q are left: %v", left, err)
		}
	}
}

func TestVerifyThatCannotRun(t *testing.T) {
	dir := t.TempDir()
	shop := "sqlite:" + filepath.Join(dir, "shop.db")
	for _, tc := range []struct {
		database, broker, only, want string
	}{
		{shop, "stdout:", "broker", "nothing that is sent to stdout: can be read back"},
		{shop, "stdout:", "pair,everything", `--only is "everything": there are database, broker, pair`},
		{"sqlite:" + filepath.Join(dir, "missing", "shop.db"), "stdout:", "database", "verify cannot run: "},
		{shop, "kafka://127.0.0.1:1", "broker", "verify cannot run: kafka://127.0.0.1:1: make a throw-away topic: "},
		{shop, "amqp://u:hunter2@127.0.0.1:1/", "broker", "make a throw-away exchange and queue: "},
	} {
		ctx := t.Context()
		var stdout, stderr bytes.Buffer
		code := run(ctx, []string{"verify", "--database", tc.database, "--broker", tc.broker, "--only", tc.only}, &stdout, &stderr)
		if code != exitUsage || !strings.Contains(stderr.String(), tc.want) || strings.Contains(stderr.String(), "hunter2") || stdout.Len() > 0 {
			t.Errorf("%s, %s: got exit code %d, %q and %q, want %d and %q", tc.broker, tc.only, code, &stdout, &stderr, exitUsage, tc.want)
		}
	}
	expectNothingOfVerify(t, shop, dir)
}

// The role may use the outbox and create nothing.
func TestVerifyWithoutThePrivilege(t *testing.T) {
	owner := servers.PostgresSchema(t)
	nobody := asNobody(t, owner)
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), []string{"verify", "--only", "database", "--database", nobody, "--broker", "stdout:"}, &stdout, &stderr)
	if want := "the role may not create the outbox"; code != exitUsage || !strings.Contains(stderr.String(), want) || !strings.Contains(stderr.String(), "GRANT CREATE") {
		t.Errorf("got exit code %d and %q, want %d and %q", code, &stderr, exitUsage, want)
	}
}

// liar is a fake: a broker that claims what it did not store, and whose topic cannot be removed.
type liar struct{ dir string }

func (l liar) Publish(context.Context, []core.Message) error { return nil }

func (l liar) ScratchTopic(_ context.Context, name string, _ config.Through) (*config.ScratchTopic, error) {
	own, err := jsonlines.Open(filepath.Join(l.dir, name))
	if err != nil {
		return nil, err
	}
	broker := &forgetful{liar: l}
	return &config.ScratchTopic{
		Broker: broker, Topic: name, Where: "the topic " + name, Stored: broker.stored,
		Remove: func(context.Context) error { return errors.Join(own.Close(), errors.New("it does not want to go")) },
	}, nil
}

// forgetful stores one message, and says that it has stored all.
type forgetful struct {
	liar
	mu        sync.Mutex
	first     []core.Message
	forgotten int
}

func (f *forgetful) Publish(_ context.Context, msgs []core.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.first == nil {
		f.first, msgs = msgs[:1], msgs[1:]
	}
	f.forgotten += len(msgs)
	return nil
}

func (f *forgetful) stored(context.Context) ([]core.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.forgotten > 0 {
		return nil, fmt.Errorf("%d messages are forgotten", f.forgotten)
	}
	return f.first, nil
}

// A broken rule that is of no promise stands where the proof would.
func TestVerifySaysWhyAPromiseIsNotProven(t *testing.T) {
	promise := conformance.PromiseResult{
		Promise: conformance.Promises()[0], Status: conformance.NotProven, Passed: []string{"atomic-commit"}, Broken: []string{"fail-both"},
	}
	var text bytes.Buffer
	p := newPrinter(&text)
	(&verified{Reports: []verifyReport{{Report: conformance.Report{Subject: "dialect", Promises: []conformance.PromiseResult{promise}}}}}).print(p)
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	if want := "not proven: check fail-both failed"; !strings.Contains(text.String(), want) {
		t.Errorf("got %s, want it to say %q", &text, want)
	}
}

func TestVerifySaysWhatFailedAndWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	v := &verified{Outbox: "shop", LeftBehind: []string{}, only: []string{"broker"}, outbox: &config.Outbox{Brokers: map[string]core.Broker{"liar": liar{dir}}}}
	cmd := &cobra.Command{}
	cmd.SetErr(io.Discard)
	if err := v.run(t.Context(), cmd); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	p := newPrinter(&text)
	v.print(p)
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FAILED  nil-is-stored: a nil error is a promise", "2. At least once", "failed", "LEFT BEHIND  the topic lockstep_verify_", "it does not want to go"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("got %s, want it to say %q", &text, want)
		}
	}
	err := verdict([]*verified{v})
	if err == nil || !strings.Contains(err.Error(), "checks failed: ") || !strings.Contains(err.Error(), "left behind: ") {
		t.Errorf("got %v, want failed checks and what is left behind", err)
	}
}
