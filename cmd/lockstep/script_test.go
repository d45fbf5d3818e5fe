package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	"github.com/rogpeppe/go-internal/testscript"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/dialect/postgres"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// waitWithin bounds what a script waits for. It is much more than anything takes.
const waitWithin = time.Minute

// TestScripts needs no server: SQLite to files, and what is wrong with command lines and configurations.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/local", nil)
}

// databaseAddresses give an empty database of each kind.
var databaseAddresses = map[string]func(t *testing.T) string{
	"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "shop.db") },
	"postgres": func(t *testing.T) string { return servers.PostgresSchema(t) },
	"mysql":    func(t *testing.T) string { return servers.MySQLURL(t) },
	"mariadb":  func(t *testing.T) string { return servers.MariaDBURL(t) },
}

// longAgo is the time 30 days before now, as an inbox has it.
var longAgo = map[string]string{
	"sqlite":   "(unixepoch() - 30 * 86400) * 1000",
	"postgres": "now() - interval '30 days'",
	"mysql":    "UTC_TIMESTAMP(6) - INTERVAL 30 DAY",
	"mariadb":  "UTC_TIMESTAMP(6) - INTERVAL 30 DAY",
}

// applicationPool is an application's way to a server.
func applicationPool(t *testing.T, address string) *sql.DB {
	t.Helper()
	open := mysql.OpenDB
	if strings.HasPrefix(address, "postgres") {
		open = postgres.OpenDB
	}
	db, err := open(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// asNobody returns the address of the same schema for a new role, which may use it and create nothing. The role is dropped
// when the test ends.
func asNobody(t *testing.T, owner string) string {
	t.Helper()
	db := applicationPool(t, owner)
	name := "lockstep_nobody_" + strings.ToLower(rand.Text())
	if _, err := db.ExecContext(t.Context(), "CREATE ROLE "+name+" LOGIN PASSWORD 'nobody'; DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO "+name+"', current_schema()); END $$"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := db.ExecContext(context.WithoutCancel(t.Context()), "DROP OWNED BY "+name+"; DROP ROLE "+name); err != nil {
			t.Error(err)
		}
	})
	u, err := url.Parse(owner)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	u.User = url.UserPassword(name, "nobody")
	return u.String()
}

// TestOperatorScripts drives every operator's command on every database. Most run in this process, by the script command
// run: a program with the race detector takes longer to start than to do its work.
func TestOperatorScripts(t *testing.T) {
	for name, address := range databaseAddresses {
		for _, script := range scriptFiles(t, "testdata/operator/*.txtar") {
			t.Run(name+"/"+filepath.Base(script), func(t *testing.T) {
				t.Parallel()
				runFiles(t, testscript.Params{Files: []string{script}}, map[string]string{"DATABASE": address(t), "LONG_AGO": longAgo[name]})
			})
		}
	}
}

// TestDoctorScripts does the harm that doctor finds.
func TestDoctorScripts(t *testing.T) {
	database := servers.PostgresSchema(t)
	runScripts(t, "testdata/doctor/database.txtar", map[string]string{"DATABASE": database, "NOBODY": asNobody(t, database)})
	runScripts(t, "testdata/doctor/brokers.txtar", map[string]string{
		"DATABASE": servers.PostgresSchema(t), "KAFKA": "kafka://" + servers.Kafka(t), "KAFKA_TOPIC": servers.KafkaTopic(t, 1), "RABBITMQ": servers.RabbitMQ(t),
		"SMALL_TOPIC": servers.KafkaTopic(t, 1, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "20"}),
	})
}

// TestPageScripts does what pages show, on PostgreSQL and Kafka; docs_test.go sees that scripts do all of it.
func TestPageScripts(t *testing.T) {
	for _, script := range scriptFiles(t, "testdata/pages/*.txtar") {
		t.Run(filepath.Base(script), func(t *testing.T) {
			t.Parallel()
			runFiles(t, testscript.Params{Files: []string{script}}, map[string]string{
				"DATABASE": servers.PostgresSchema(t), "KAFKA": "kafka://" + servers.Kafka(t),
				"TOPIC": servers.KafkaTopic(t, 1, kafkago.ConfigEntry{ConfigName: "max.message.bytes", ConfigValue: "2000"}),
			})
		})
	}
}

// TestBrokerScripts: brokers are swapped by one line of the configuration, as is promised, and measured.
func TestBrokerScripts(t *testing.T) {
	runScripts(t, "testdata/brokers", map[string]string{
		"DATABASE": servers.PostgresSchema(t),
		"KAFKA":    "kafka://" + servers.Kafka(t), "WATERMILL": "watermill+kafka://" + servers.Kafka(t), "RABBITMQ": servers.RabbitMQ(t),
		"KAFKA_ADDRESS": servers.Kafka(t), "QUEUE": "lockstep_test_" + strings.ToLower(rand.Text()), "KAFKA_TOPIC": servers.KafkaTopic(t, 1), "WATERMILL_TOPIC": servers.KafkaTopic(t, 1),
	})
}

func scriptFiles(t *testing.T, pattern string) []string {
	t.Helper()
	scripts, err := filepath.Glob(pattern)
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%s: found %v, %v", pattern, scripts, err)
	}
	return scripts
}

// runScripts runs a script, or all in a directory.
func runScripts(t *testing.T, dir string, variables map[string]string) {
	t.Helper()
	p := testscript.Params{Dir: dir}
	if strings.HasSuffix(dir, ".txtar") {
		p = testscript.Params{Files: []string{dir}}
	}
	runFiles(t, p, variables)
}

func runFiles(t *testing.T, p testscript.Params, variables map[string]string) {
	t.Helper()
	p.RequireExplicitExec = true
	p.Setup = func(env *testscript.Env) error {
		for name, value := range variables {
			env.Setenv(name, value)
		}
		return nil
	}
	p.Cmds = map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"run": runCommand, "enqueue": enqueueCommand, "carry": carryCommand, "waitline": waitLineCommand, "waitget": waitGetCommand, "waitrun": waitRunCommand,
		"hides": hidesCommand,
		"sql":   sqlCommand, "queue": queueCommand, "inqueue": inQueueCommand, "intopic": inTopicCommand,
	}
	testscript.Run(t, p)
}

// runCommand: run ARGUMENT... It runs the command line in this process, where no file and no variable is the script's. What
// --json prints is one object and nothing else.
func runCommand(ts *testscript.TestScript, neg bool, args []string) {
	var printed bytes.Buffer
	code := run(context.Background(), args, io.MultiWriter(ts.Stdout(), &printed), ts.Stderr())
	if slices.Contains(args, "--json") && (printed.Len() > 0 || code == exitOK) {
		var object map[string]any
		if err := json.Unmarshal(printed.Bytes(), &object); err != nil {
			ts.Fatalf("it printed no JSON object, or more than one: %v: %s", err, &printed)
		}
	}
	switch {
	case code != exitOK && !neg:
		ts.Fatalf("exit code %d", code)
	case code == exitOK && neg:
		ts.Fatalf("exit code %d, want another", code)
	}
}

// enqueueCommand: enqueue DATABASE TOPIC KEY PAYLOAD [TRACEPARENT]. It prints the id to the file named id.
func enqueueCommand(ts *testscript.TestScript, _ bool, args []string) {
	dialect, db := openDatabase(ts, args[0])
	m := core.Message{ID: core.NewID(), Topic: args[1], Key: args[2], Payload: []byte(args[3])}
	if len(args) > 4 {
		m.Headers = map[string]string{"traceparent": args[4]}
	}
	outbox := core.NewOutbox(dialect, core.OutboxConfig{})
	ts.Check(outbox.InTx(context.Background(), db, core.InTxOptions{}, func(context.Context, *sql.Tx) ([]core.Message, error) {
		return []core.Message{m}, nil
	}))
	ts.Setenv("ID", m.ID)
}

// sqlCommand: sql DATABASE STATEMENT. {nobody} is the user of $NOBODY, and current_schema the schema's name where SQL wants one.
func sqlCommand(ts *testscript.TestScript, _ bool, args []string) {
	statement := args[1]
	_, db := openDatabase(ts, args[0])
	if u, err := url.Parse(ts.Getenv("NOBODY")); err == nil {
		statement = strings.ReplaceAll(statement, "{nobody}", u.User.Username())
	}
	if strings.Contains(statement, "SCHEMA current_schema") {
		var schema string
		ts.Check(db.QueryRowContext(context.Background(), "SELECT quote_ident(current_schema())").Scan(&schema))
		statement = strings.ReplaceAll(statement, "SCHEMA current_schema", "SCHEMA "+schema)
	}
	_, err := db.ExecContext(context.Background(), statement)
	ts.Check(err)
}

// carryCommand: carry DATABASE. It carries what is there to a fake broker that refuses poison for good, tries what is
// refused for now once, and takes the rest.
func carryCommand(ts *testscript.TestScript, _ bool, args []string) {
	dialect, _ := openDatabase(ts, args[0])
	relay, err := core.NewRelay(dialect, fakeBroker{}, core.RelayConfig{Failures: core.FailurePolicy{FirstDelay: time.Hour, MaxDelay: time.Hour}})
	ts.Check(err)
	_, err = relay.RunOnce(context.Background())
	ts.Check(err)
}

type fakeBroker struct{}

func (fakeBroker) Publish(_ context.Context, msgs []core.Message) error {
	results, failed := make([]error, len(msgs)), false
	for i, m := range msgs {
		switch string(m.Payload) {
		case "poison":
			results[i], failed = fmt.Errorf("%w: the fake broker does not like poison", core.ErrPermanent), true
		case "refused":
			results[i], failed = errors.New("the fake broker is in a bad mood"), true
		}
	}
	if failed {
		return &core.BatchError{Results: results}
	}
	return nil
}

// openDatabase opens a database for the script's application. Everything is archived.
func openDatabase(ts *testscript.TestScript, address string) (config.Dialect, *sql.DB) {
	dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{Archive: []string{"*"}})
	ts.Check(err)
	ts.Defer(func() { ts.Check(dialect.Close()) })
	if own, ok := dialect.(interface{ DB() *sql.DB }); ok {
		return dialect, own.DB()
	}
	open := mysql.OpenDB
	if strings.HasPrefix(address, "postgres") {
		open = postgres.OpenDB
	}
	db, err := open(address)
	ts.Check(err)
	ts.Defer(func() { ts.Check(db.Close()) })
	return dialect, db
}

// waitLineCommand: waitline FILE TEXT [VARIABLE]. It waits until a line of the file holds the text, and sets the variable to
// what follows the text on that line, up to a space.
func waitLineCommand(ts *testscript.TestScript, _ bool, args []string) {
	wait(ts, func() error {
		content, err := os.ReadFile(ts.MkAbs(args[0]))
		if err != nil {
			return err
		}
		_, after, found := strings.Cut(string(content), args[1])
		if !found || !strings.Contains(after, "\n") {
			return fmt.Errorf("%s has no %q: %s", args[0], args[1], content)
		}
		if len(args) > 2 {
			ts.Setenv(args[2], strings.TrimSpace(strings.FieldsFunc(after, func(r rune) bool { return r == ' ' || r == '\n' })[0]))
		}
		return nil
	})
}

// waitRunCommand: waitrun TEXT ARGUMENT... It runs the command line in this process until what it prints holds the text.
func waitRunCommand(ts *testscript.TestScript, _ bool, args []string) {
	wait(ts, func() error {
		var stdout, stderr strings.Builder
		if code := run(context.Background(), args[1:], &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), args[0]) {
			return fmt.Errorf("got exit code %d, want %q in %s%s", code, args[0], &stdout, &stderr)
		}
		return nil
	})
}

// waitGetCommand: waitget URL STATUS TEXT. It waits until the answer has the status and holds the text.
func waitGetCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	wait(ts, func() error {
		code, body, err := answerOf(args[0])
		if err == nil && (code != want || !strings.Contains(body, args[2])) {
			err = fmt.Errorf("got %d, want %d with %q: %s", code, want, args[2], body)
		}
		return err
	})
}

// hidesCommand: hides URL TEXT. The answer does not hold the text.
func hidesCommand(ts *testscript.TestScript, _ bool, args []string) {
	_, body, err := answerOf(args[0])
	ts.Check(err)
	if body == "" || strings.Contains(body, args[1]) {
		ts.Fatalf("got %s, want something without %q", body, args[1])
	}
}

// answerOf asks over a connection of its own.
func answerOf(address string) (code int, body string, err error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(address)
	if err != nil {
		return 0, "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text), err
}

// queueCommand: queue NAME. It declares a queue, which is deleted at the end.
func queueCommand(ts *testscript.TestScript, _ bool, args []string) {
	channel := rabbit(ts)
	_, err := channel.QueueDeclare(args[0], true, false, false, false, nil)
	ts.Check(err)
	ts.Defer(func() {
		_, err := channel.QueueDelete(args[0], false, false, false)
		ts.Check(err)
	})
}

// inQueueCommand: inqueue NAME TEXT. The queue's first message has this payload.
func inQueueCommand(ts *testscript.TestScript, _ bool, args []string) {
	got, found, err := rabbit(ts).Get(args[0], true)
	ts.Check(err)
	if !found || string(got.Body) != args[1] {
		ts.Fatalf("got %q (%v), want %q", got.Body, found, args[1])
	}
}

func rabbit(ts *testscript.TestScript) *amqp091.Channel {
	connection, err := amqp091.Dial(ts.Getenv("RABBITMQ"))
	ts.Check(err)
	ts.Defer(func() { ts.Check(connection.Close()) })
	channel, err := connection.Channel()
	ts.Check(err)
	return channel
}

// inTopicCommand: intopic NAME TEXT. The topic's first record has this value.
func inTopicCommand(ts *testscript.TestScript, _ bool, args []string) {
	ctx, cancel := context.WithTimeout(context.Background(), waitWithin)
	defer cancel()
	connection, err := kafkago.DialLeader(ctx, "tcp", strings.TrimPrefix(ts.Getenv("KAFKA"), "kafka://"), args[0], 0)
	ts.Check(err)
	defer connection.Close()
	got, err := connection.ReadMessage(1 << 20)
	ts.Check(err)
	if string(got.Value) != args[1] {
		ts.Fatalf("got %q, want %q", got.Value, args[1])
	}
}

// wait asks until try succeeds: what it asks about happens in another process.
func wait(ts *testscript.TestScript, try func() error) {
	deadline := time.Now().Add(waitWithin)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%v", err)
		}
		<-tick.C
	}
}
