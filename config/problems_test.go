package config_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
)

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	_, err := load(t, `databse: postgres://relay@db/shop
broker: evnts
relay:
  lanes: many
  batch_size: -1
  poll_interval: 5
archive: orders
topics:
  audit: {max_delay: -5s, skipdead: true}
routes:
  - {topics: "*", broker: "kafka://k1:9092"}
  - {topics: audit, broker: ""}
log: {level: loud, format: xml}
listen: here
`, nil, nil)
	var wrong *config.Error
	if !errors.As(err, &wrong) {
		t.Fatalf("got %v, want a *config.Error", err)
	}
	var got []string
	for _, p := range wrong.Problems {
		got = append(got, fmt.Sprintf("%d %s", p.Line, p.Field))
	}
	for _, want := range []string{
		"1 databse", "0 database", "2 broker", "4 relay.lanes", "5 relay.batch_size", "7 archive",
		"9 topics.audit.skipdead", "9 topics.audit.max_delay", "12 routes[1]", "12 routes[1].broker", "13 log.level", "13 log.format", "14 listen",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("no problem at %q", want)
		}
	}
	if t.Failed() {
		t.Logf("got: %v\n%v", got, err)
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	const database, broker = "database: sqlite:shop.db\n", "broker: 'stdout:'\n"
	for _, tt := range []struct{ name, content, want string }{
		{"nothing", "", "database: is missing"},
		{"another document", "---\n" + database + broker + "---\nprefxi: a_\n", "lockstep.yaml:5: is another document"},
		{"near miss", database + broker + "reley: {}\n", "is it relay that was meant?"},
		{"unknown inside", database + broker + "relay: {lane: 3}\n", "lockstep.yaml:3: relay.lane: is not a setting: is it lanes that was meant?"},
		{"no scheme", "database: shop\n" + broker, "has no scheme"},
		{"no URL", "database: 'postgres://u:p%zz@h/'\n" + broker, "is not a URL"},
		{"no such broker", database + "broker: events\nbrokers: {event: 'stdout:'}\n", `"events", which is neither a URL nor one of brokers`},
		{"both forms", database + broker + "outboxes: [{name: a, database: 'sqlite:a', broker: 'stdout:'}]\n", "stands beside outboxes"},
		{"no outboxes", "outboxes: []\n", "outboxes: is empty"},
		{"no name", "outboxes: [{database: 'sqlite:a', broker: 'stdout:'}]\n", "outboxes[0].name: is missing"},
		{"one name", "outboxes: [{name: a, database: 'sqlite:a', broker: 'stdout:'}, {name: a, database: 'sqlite:b', broker: 'stdout:'}]\n", "needs a name of its own"},
		{"one database", "outboxes: [{name: a, database: 'sqlite:a', broker: 'stdout:'}, {name: b, database: 'sqlite:a', broker: 'stdout:'}]\n", "is the outbox of outboxes[0] again"},
		{"unreachable route", database + broker + "routes: [{topics: 'a*', broker: 'stdout:'}, {topics: 'ab', broker: 'stdout:'}]\n", "is never reached"},
		{"no variable", "database: postgres://u:${PASSWORD}@h/d\n" + broker, "needs the environment variable PASSWORD"},
		{"no file", "database: postgres://u:${file:/nowhere}@h/d\n" + broker, "needs a file"},
		{"open reference", "database: postgres://u:${PASSWORD\n" + broker, "without its }"},
		{"odd reference", "database: postgres://u:${vault:x}@h/d\n" + broker, "write ${NAME}"},
		{"delays", database + broker + "failures: {first_delay: 1h}\n", "failures.max_delay: is 5m0s: it must be at least FirstDelay"},
		{"negative age", database + broker + "max_pending_age: -1s\n", "max_pending_age: is -1s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.content, nil, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

// What cannot be read is not said to be missing, and one mistake is one problem.
func TestWhatIsThereIsNotMissing(t *testing.T) {
	t.Parallel()
	const database, broker = "database: sqlite:shop.db\n", "broker: 'stdout:'\n"
	for _, tt := range []struct{ name, content, want string }{
		{"not YAML", database + broker + "topics: [\n", "is not YAML: "},
		{"not YAML behind it", database + broker + "---\ntopics: [\n", "is not YAML: "},
		{"not quoted", database + "broker: stdout:\n", `lockstep.yaml:2: is not YAML: mapping values are not allowed in this context: quote a value that ends with a colon, or has one before a space, as in broker: "stdout:"`},
		{"not a mapping", "- a\n", "lockstep.yaml:1: is not a mapping"},
		{"twice", database + broker + database, "lockstep.yaml:3: database: is set already, on line 1"},
		{"twice inside", database + broker + "relay: {lanes: 3, batch_size: 7, lanes: 4}\n", "lockstep.yaml:3: relay.lanes: is set already, on line 3"},
		{"one topic twice", database + broker + "topics:\n  a: {skip_dead: true}\n  a: {max_attempts: 3}\n", "lockstep.yaml:5: topics.a: is set already, on line 4"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := load(t, tt.content, nil, nil)
			var wrong *config.Error
			if !errors.As(err, &wrong) || len(wrong.Problems) != 1 || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q alone", err, tt.want)
			}
		})
	}
}

func TestTheAdaptersAreNotAskedAboutWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	if err := os.WriteFile(file, []byte("a: b: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := config.NewRegistry().Load(config.Source{File: file})
	var wrong *config.Error
	if !errors.As(err, &wrong) || len(wrong.Problems) != 1 || wrong.File != file {
		t.Errorf("got %v, want one problem of %s", err, file)
	}
}

// What is wrong is said without what is secret.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"database: postgres://u:hunter2@h:port/d\nbroker: 'kafka://u:hunter2@[::1'\n",
		"database: {a: hunter2}\nbroker: 'stdout:'\nlisten: [hunter2]\n",
		"database: sqlite:a\nbroker: 'stdout:'\nrelay: {lanes: \"${PASSWORD}\", poll_interval: \"${PASSWORD}\"}\n",
	} {
		_, err := load(t, content, map[string]string{"PASSWORD": "hunter2"}, nil)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("got %v, want an error without the password", err)
		}
	}
}

func TestURLsArePrintedWithoutSecrets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"events":                            "events",
		"postgres://u:hunter2@h/d":          "postgres://u:xxxxx@h/d",
		"kafka+tls://k:1?sasl_password=abc": "kafka+tls://k:1?sasl_password=xxxxx",
		"postgres://u:hunt%zz@h/d":          "(unreadable URL)",
	} {
		if got := fmt.Sprintf("%v", config.NewURL(text)); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}
