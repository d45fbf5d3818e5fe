package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/config"
)

// load reads a file with this content, in an environment of these variables.
func load(t *testing.T, content string, variables map[string]string, flags map[string]string) (config.Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lockstep.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Load(config.Source{File: file, Flags: flags, Lookup: func(name string) (string, bool) {
		value, set := variables[name]
		return value, set
	}})
}

func TestTwoLinesAreAConfiguration(t *testing.T) {
	t.Parallel()
	got, err := load(t, "database: postgres://relay@db/shop\nbroker: kafka://k1:9092,k2:9092\n", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Config{
		Outboxes: []config.OutboxConfig{{
			Name: "default", Database: config.NewURL("postgres://relay@db/shop"), Broker: config.NewURL("kafka://k1:9092,k2:9092"),
		}},
		Listen: config.DefaultListen, MaxPendingAge: 5 * time.Minute, Log: config.Log{Level: "info", Format: "text"},
	}
	got = config.Config{ // without where it stands
		OutboxConfig: got.OutboxConfig, Outboxes: got.Outboxes, Brokers: got.Brokers, Listen: got.Listen, MaxPendingAge: got.MaxPendingAge, Log: got.Log,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestEverySettingOfTheManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	var block strings.Builder
	for line := range strings.Lines(string(manual)) {
		if text, ok := strings.CutPrefix(line, "//\t"); ok {
			block.WriteString(text)
		}
		if strings.HasPrefix(line, "// Several outboxes") {
			break
		}
	}
	got, err := load(t, block.String(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := got.Outboxes[0]
	if o.Prefix != "shop_" || o.Schema != "events" || len(o.Archive) != 2 || o.Relay.LeaseTTL != 5*time.Second ||
		o.Failures.MaxAttempts != 10 || !o.Topics["audit"].SkipDead || len(o.Routes) != 1 || got.Brokers["audit"].IsZero() {
		t.Errorf("got %+v, want what the manual says", got)
	}
}

func TestSeveralOutboxes(t *testing.T) {
	t.Parallel()
	got, err := load(t, `
outboxes:
  - {name: shop, database: "postgres://relay@db/shop", broker: events}
  - {name: bank, database: "mysql://relay@db2/bank", broker: events, routes: [{topics: "audit.*", broker: "stdout:"}]}
brokers:
  events: kafka://k1:9092
`, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Outboxes) != 2 || got.Outboxes[1].Name != "bank" || got.Outboxes[1].Routes[0].Topics != "audit.*" {
		t.Errorf("got %+v", got.Outboxes)
	}
}

func TestSecretsComeFromOutside(t *testing.T) {
	t.Parallel()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("p@ss/ word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := load(t, `
database: postgres://relay:${urlfile:`+secret+`}@${HOST}/shop
broker: kafka://${url:USER}:x@k1:9092
relay: {lanes: "${LANES}", batch_size: 7}
archive: ["a$${b"]
`, map[string]string{"HOST": "db:5432", "USER": "a b"}, nil)
	if err == nil || !strings.Contains(err.Error(), "LANES") {
		t.Errorf("got %v, want an error that names LANES", err)
	}
	o := got.Outboxes[0]
	if want := config.NewURL("postgres://relay:p%40ss%2F%20word@db:5432/shop"); o.Database != want {
		t.Errorf("the database is %v", o.Database)
	}
	if want := config.NewURL("kafka://a%20b:x@k1:9092"); o.Broker != want {
		t.Errorf("the broker is %v, want %v", o.Broker, want)
	}
	if o.Archive[0] != "a${b" {
		t.Errorf("the archive is %q", o.Archive)
	}
}

// What a secret holds is taken as it is, however often the file leads to it.
func TestASecretIsExpandedOnce(t *testing.T) {
	t.Parallel()
	got, err := load(t, "prefix: &p '${PFX}'\nschema: *p\ndatabase: sqlite:a.db\nbroker: 'stdout:'\narchive: [*p, *p]\n",
		map[string]string{"PFX": "${HOME}", "HOME": "/root"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o := got.Outboxes[0]
	for _, text := range append(o.Archive, o.Prefix, o.Schema) {
		if text != "${HOME}" {
			t.Errorf("got %q, want ${HOME}", text)
		}
	}
}

// A file may begin with ---, end with ... or with another --- behind which nothing stands.
func TestOneDocument(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"---\ndatabase: sqlite:a.db\nbroker: 'stdout:'\n...\n", "# a\ndatabase: sqlite:a.db\nbroker: 'stdout:'\n---\n# b\n"} {
		if got, err := load(t, content, nil, nil); err != nil || got.Outboxes[0].Database != config.NewURL("sqlite:a.db") {
			t.Errorf("%q: got %+v, %v", content, got, err)
		}
	}
}

func TestFlagsWinOverTheEnvironmentOverTheFile(t *testing.T) {
	t.Parallel()
	got, err := load(t, "database: sqlite:file.db\nbroker: 'stdout:'\nlog: {level: warn}\nprefix: file_\n",
		map[string]string{"LOCKSTEP_DATABASE": "sqlite:env.db", "LOCKSTEP_LOG_LEVEL": "debug", "LOCKSTEP_LISTEN": "off", "LOCKSTEP_PREFIX": "env_"},
		map[string]string{"log.level": "error", "prefix": "flag_"})
	if err != nil {
		t.Fatal(err)
	}
	if o := got.Outboxes[0]; o.Database != config.NewURL("sqlite:env.db") || o.Prefix != "flag_" || got.Log.Level != "error" || got.Listen != "off" {
		t.Errorf("got %+v", got)
	}
}

func TestNoFileAtAll(t *testing.T) {
	t.Parallel()
	got, err := config.Load(config.Source{Lookup: func(string) (string, bool) { return "", false },
		Flags: map[string]string{"database": "sqlite:a.db", "broker": "stdout:"}})
	if err != nil || got.Outboxes[0].Database != config.NewURL("sqlite:a.db") {
		t.Errorf("got %+v, %v", got, err)
	}
}
