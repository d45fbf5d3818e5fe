package servers_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeT stands in for *testing.T: it keeps how a test ended instead of ending this one.
type fakeT struct {
	skipped, failed string
	cleanups        []func()
}

func (*fakeT) Helper() {}

func (f *fakeT) Cleanup(cleanup func()) { f.cleanups = append(f.cleanups, cleanup) }

func (f *fakeT) Errorf(format string, args ...any) { f.failed += fmt.Sprintf(format, args...) }

func (f *fakeT) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *fakeT) Skipf(format string, args ...any) {
	f.skipped = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// play runs a test function to its end, cleanups included.
func play(test func(t servers.TB)) *fakeT {
	fake := &fakeT{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for _, cleanup := range slices.Backward(fake.cleanups) {
				cleanup()
			}
		}()
		test(fake)
	}()
	<-done
	return fake
}

// withoutServers empties the environment of everything the package reads.
func withoutServers(t *testing.T) {
	for _, name := range []string{"POSTGRES", "MYSQL", "MARIADB", "RABBITMQ", "KAFKA", "REQUIRE", "SERVICES"} {
		t.Setenv("LOCKSTEP_TEST_"+name, "")
	}
}

var kinds = []struct {
	name string
	use  func(t servers.TB)
	// malformed cannot be parsed. at gives a well-formed address of a given host:port.
	malformed []string
	at        string
}{
	{"postgres", func(t servers.TB) { servers.PostgresSchema(t) },
		[]string{"postgres://app:hush@host:port/db", "host=localhost password=hush", "mysql://app:hush@host/db"},
		"postgres://app:hush@%s/db?sslmode=disable&password=hush"},
	{"mysql", func(t servers.TB) { servers.MySQLDatabase(t) },
		[]string{"app:hush", "mysql://app:hush@host/db"}, "app:hush@tcp(%s)/db"},
	{"mariadb", func(t servers.TB) { servers.MariaDBDatabase(t) },
		[]string{"app:hush"}, "app:hush@tcp(%s)/db"},
	{"rabbitmq", func(t servers.TB) { servers.RabbitMQ(t) },
		[]string{"app:hush@host:5672", "http://app:hush@host/"}, "amqp://app:hush@%s/"},
	{"kafka", func(t servers.TB) { servers.KafkaTopic(t, 1) }, []string{"hush"}, "%s"},
}

func TestUnset(t *testing.T) {
	for _, kind := range kinds {
		variable := "LOCKSTEP_TEST_" + strings.ToUpper(kind.name)
		for _, test := range []struct {
			require string
			fails   string
		}{
			{require: ""},
			{require: "all", fails: variable + " is not set and LOCKSTEP_TEST_REQUIRE=all asks for " + kind.name},
			{require: "kafka, rabbitmq,mariadb , mysql,\tpostgres", fails: variable + " is not set"},
			{require: "postgres,oracle", fails: `there is no server "oracle"; want all, or names from postgres, postgres18`},
		} {
			t.Run(kind.name+"/"+test.require, func(t *testing.T) {
				withoutServers(t)
				t.Setenv(servers.RequireVariable, test.require)
				got := play(kind.use)
				if test.fails != "" && (!strings.Contains(got.failed, test.fails) || got.skipped != "") {
					t.Errorf("failed %q, skipped %q; want the failure %q", got.failed, got.skipped, test.fails)
				}
				wantSkip := variable + " is not set: start the servers and name them with `eval \"$(scripts/services env)\"`"
				if test.fails == "" && (!strings.HasPrefix(got.skipped, wantSkip) || got.failed != "") {
					t.Errorf("skipped %q, failed %q; want the skip %q", got.skipped, got.failed, wantSkip)
				}
			})
		}
	}
}

func TestRequireOfAnotherServerSkips(t *testing.T) {
	withoutServers(t)
	t.Setenv(servers.RequireVariable, "mysql")
	got := play(func(t servers.TB) { servers.Postgres(t) })
	if got.skipped == "" || got.failed != "" {
		t.Errorf("skipped %q, failed %q; want a skip", got.skipped, got.failed)
	}
}

// TestWrongAddress holds the rule that a set variable never skips: an address that cannot be parsed, a port where
// nobody listens, and a peer that accepts and then says nothing.
func TestWrongAddress(t *testing.T) {
	servers.AnswerWithin(t, time.Second)
	silent := listen(t)
	closed := listen(t)
	_ = closed.Close()
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			withoutServers(t)
			for _, dsn := range kind.malformed {
				fails(t, kind.name, kind.use, dsn, "cannot be parsed; want ")
			}
			fails(t, kind.name, kind.use, fmt.Sprintf(kind.at, closed.Addr()), closed.Addr().String())
			fails(t, kind.name, kind.use, fmt.Sprintf(kind.at, silent.Addr()), "(waited at most 1s; ")
		})
	}
}

func fails(t *testing.T, name string, use func(t servers.TB), dsn, want string) {
	t.Helper()
	variable := "LOCKSTEP_TEST_" + strings.ToUpper(name)
	t.Setenv(variable, dsn)
	got := play(use)
	t.Log(got.failed)
	if !strings.HasPrefix(got.failed, variable+": ") || !strings.Contains(got.failed, want) || got.skipped != "" {
		t.Errorf("%s: failed %q, skipped %q; want a failure that names the variable and holds %q", dsn, got.failed, got.skipped, want)
	}
	if strings.Contains(got.failed, "hush") {
		t.Errorf("%s: %q shows the password", dsn, got.failed)
	}
	if strings.Contains(got.failed, "\n") {
		t.Errorf("%s: %q is more than one line", dsn, got.failed)
	}
}

// listen opens a port that the kernel accepts connections on and that nobody reads from.
func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

// scriptThat returns a stand-in for scripts/services that writes down how it was called, and the file it writes to.
func scriptThat(t *testing.T, exit int) (script, calls string) {
	t.Helper()
	calls = filepath.Join(t.TempDir(), "calls")
	script = filepath.Join(t.TempDir(), "services")
	text := fmt.Sprintf("#!/bin/sh\necho \"$*\" >>'%s'\necho no such luck\nexit %d\n", calls, exit)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return script, calls
}

func TestControl(t *testing.T) {
	for verb, want := range map[string]string{
		"kill":   "kill kafka\nduring\nup kafka\n",
		"pause":  "pause kafka\nduring\nresume kafka\n",
		"resume": "resume kafka\nduring\n",
		"up":     "up kafka\nduring\n",
	} {
		t.Run(verb, func(t *testing.T) {
			withoutServers(t)
			script, calls := scriptThat(t, 0)
			t.Setenv(servers.ControlVariable, script)
			got := play(func(fake servers.TB) {
				servers.Control(fake, verb, "kafka")
				appendTo(t, calls, "during\n")
			})
			if got.failed != "" || got.skipped != "" {
				t.Errorf("failed %q, skipped %q; want neither", got.failed, got.skipped)
			}
			if called, _ := os.ReadFile(calls); string(called) != want {
				t.Errorf("called with %q, want %q", called, want)
			}
		})
	}
}

func appendTo(t *testing.T, name, text string) {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		t.Error(err)
	}
}

// TestControlUndoesAFailedKill: a kill that failed halfway may have done harm.
func TestControlUndoesAFailedKill(t *testing.T) {
	withoutServers(t)
	script, calls := scriptThat(t, 3)
	t.Setenv(servers.ControlVariable, script)
	got := play(func(t servers.TB) { servers.Control(t, "kill", "mysql") })
	if want := "kill mysql: exit status 3: no such luck"; !strings.Contains(got.failed, want) {
		t.Errorf("failed %q, want %q", got.failed, want)
	}
	if called, _ := os.ReadFile(calls); string(called) != "kill mysql\nup mysql\n" {
		t.Errorf("called with %q, want kill and up", called)
	}
}

func TestControlRefuses(t *testing.T) {
	withoutServers(t)
	for _, test := range []struct{ verb, name, require, failed, skipped string }{
		{verb: "drop", name: "kafka", failed: `no verb "drop"`},
		{verb: "kill", name: "oracle", failed: `no server "oracle"`},
		{verb: "kill", name: "kafka", skipped: "LOCKSTEP_TEST_SERVICES is not set: start the servers"},
		{verb: "kill", name: "kafka", require: "all", failed: "LOCKSTEP_TEST_SERVICES is not set and LOCKSTEP_TEST_REQUIRE=all"},
		{verb: "kill", name: "kafka", require: "kafak", failed: `there is no server "kafak"`},
	} {
		t.Setenv(servers.RequireVariable, test.require)
		got := play(func(t servers.TB) { servers.Control(t, test.verb, test.name) })
		if !strings.Contains(got.failed, test.failed) || !strings.Contains(got.skipped, test.skipped) ||
			(got.failed == "") != (test.failed == "") || (got.skipped == "") != (test.skipped == "") {
			t.Errorf("%+v: failed %q, skipped %q", test, got.failed, got.skipped)
		}
	}
}
