// Package imports holds the import rules of this module as a test: who may know whom.
//
// Core stands on the standard library alone, so that whoever uses it inherits no dependency. Dialects and brokers know
// core and their own client, so that using one does not bring in another. Conformance knows no adapter, so that an
// adapter of somebody else is tested as ours are.
package imports

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/lockstep-go/lockstep"

// rule says what the packages at a path, and below it, may import. An entry allows an import path and everything below
// it; ours are written without the module. The standard library and the packages at the rule's own path are always
// allowed. A package obeys the rule with the longest path that fits, and one that no rule fits is an error.
type rule struct {
	path  string
	allow []string
	// anyoneElses allows every module that is not ours.
	anyoneElses bool
}

const (
	amqp091   = "github.com/rabbitmq/amqp091-go"
	kafkago   = "github.com/segmentio/kafka-go"
	sqlx      = "github.com/jmoiron/sqlx"
	sarama    = "github.com/IBM/sarama"
	watermill = "github.com/ThreeDotsLabs/watermill"

	watermillKafka = "github.com/ThreeDotsLabs/watermill-kafka"
)

var rules = []rule{
	{path: "core"},

	{path: "dialect", allow: []string{"core", "internal", sqlx}}, // one without a driver of its own: in memory
	{path: "dialect/postgres", allow: []string{"core", "internal", sqlx, "github.com/lib/pq"}},
	{path: "dialect/mysql", allow: []string{"core", "internal", sqlx, "github.com/go-sql-driver/mysql"}},
	{path: "dialect/sqlite", allow: []string{"core", "internal", sqlx, "modernc.org/sqlite"}},

	{path: "broker", allow: []string{"core"}}, // one without a client: in memory
	{path: "broker/kafka", allow: []string{"core", "internal/cloudevents", "internal/anyone", kafkago}},
	{path: "broker/amqp", allow: []string{"core", "internal/cloudevents", "internal/anyone", amqp091}},
	{path: "broker/watermill", allow: []string{"core", watermill}},
	{path: "broker/watermill/wmkafka", allow: []string{"core", "broker/watermill", watermill, watermillKafka, sarama, "github.com/eapache/go-resiliency"}},

	{path: "conformance", allow: []string{"core", "inbox"}},

	{path: "inbox", allow: []string{"core"}},
	{path: "inbox/kafka", allow: []string{"core", "inbox", kafkago}},
	{path: "inbox/amqp", allow: []string{"core", "inbox", amqp091}},
	{path: "inbox/watermill", allow: []string{"core", "inbox", watermill}},

	{path: "config", allow: []string{"core", "go.yaml.in/yaml", "gopkg.in/yaml.v3"}},
	{path: "config/all", allow: []string{"core", "config", "dialect", "broker", kafkago, watermill, watermillKafka, // to configure them
		amqp091}}, // to verify it

	{path: "cmd/lockstep", allow: []string{"core", "config", "conformance", "inbox", "internal/demo", "internal/bench",
		"github.com/spf13/cobra", "github.com/mattn/go-isatty", "golang.org/x/sys", "github.com/prometheus", "go.opentelemetry.io"}},

	{path: "examples", allow: []string{"core", "dialect", "broker", "conformance", "inbox", "config"}, anyoneElses: true},
	{path: "internal", allow: []string{"core", "internal"}, anyoneElses: true},
	{path: "internal/brokertest", allow: []string{"core", "conformance"}},
	{path: "internal/dialecttest", allow: []string{"core", "conformance", "go.uber.org/goleak"}},
	{path: "internal/servers", allow: []string{"core", "conformance", "internal"}, anyoneElses: true},
	{path: "internal/demo", allow: []string{"core", "dialect/sqlite", "broker/watermill"}, anyoneElses: true}, // an application
	{path: "internal/inboxtest", allow: []string{"core", "dialect/sqlite", "inbox"}},
	// It measures the adapters beside their own clients.
	{path: "internal/bench", allow: []string{"core", "dialect", "broker/kafka", "broker/amqp"}, anyoneElses: true},
}

// forTests are packages that nothing but a test imports, whatever the rules say.
var forTests = []string{"internal/docs", "internal/brokertest", "internal/dialecttest", "internal/dose", "internal/servers", "internal/inboxtest"}

// pkg is what `go list -json` says of a package. Imports are those of the package itself and not of its tests.
type pkg struct {
	ImportPath string
	Imports    []string
	Standard   bool
}

func TestImports(t *testing.T) {
	found := list(t, "./...")
	if len(found) == 0 {
		t.Fatal("go list found no packages")
	}
	for _, p := range found {
		for _, violation := range violations(p.ImportPath, p.Imports) {
			t.Error(violation)
		}
	}
}

// TestCoreNeedsNothing holds all that core is built from to the standard library, and not only what it imports itself.
func TestCoreNeedsNothing(t *testing.T) {
	if !slices.ContainsFunc(list(t, "./..."), func(p pkg) bool { return within(p.ImportPath, module+"/core") }) {
		t.Log("there is no core yet")
		return
	}
	for _, p := range list(t, "-deps", "./core/...") {
		if !p.Standard && !within(p.ImportPath, module+"/core") {
			t.Errorf("core is built from %s, want the standard library alone", p.ImportPath)
		}
	}
}

func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	args = append([]string{"list", "-json=ImportPath,Imports,Standard"}, args...)
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = "../.."
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v: %s", strings.Join(args, " "), err, complaint.String())
	}
	var found []pkg
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := decoder.Decode(&p); err == io.EOF {
			return found
		} else if err != nil {
			t.Fatal(err)
		}
		found = append(found, p)
	}
}

// violations holds the imports of one package against its rule.
func violations(importer string, imports []string) []string {
	path := ours(importer)
	r, ok := ruleOf(path)
	if !ok {
		return []string{fmt.Sprintf("%s: no rule in internal/imports says what %q may import; add one", importer, path)}
	}
	var found []string
	for _, imported := range imports {
		if !r.allows(imported) {
			found = append(found, fmt.Sprintf("%s imports %s, which the rule of %q forbids", importer, imported, r.path))
		}
	}
	return found
}

func ruleOf(path string) (rule, bool) {
	var best rule
	ok := false
	for _, r := range rules {
		if within(path, r.path) && len(r.path) > len(best.path) {
			best, ok = r, true
		}
	}
	return best, ok
}

func (r rule) allows(imported string) bool {
	if standard(imported) {
		return true
	}
	path := ours(imported)
	if slices.Contains(forTests, path) {
		return false
	}
	if within(path, r.path) || slices.ContainsFunc(r.allow, func(allowed string) bool { return within(path, allowed) }) {
		return true
	}
	return r.anyoneElses && path == imported
}

// standard tells by the first element, which is a host's name everywhere else.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// ours is the path inside our module, or the path itself where it is not ours.
func ours(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

func within(path, above string) bool {
	return path == above || strings.HasPrefix(path, above+"/")
}

// TestViolations sees the rules refuse what they are there to refuse.
func TestViolations(t *testing.T) {
	for _, test := range []struct {
		importer, imported string
		allowed            bool
	}{
		{"core", "database/sql", true},
		{"core", module + "/core/internal/lane", true},
		{"core", "github.com/lib/pq", false},
		{"core", module + "/internal/sqltext", false},
		{"core/internal/lane", module + "/dialect/mysql", false},
		{"dialect/postgres", "github.com/lib/pq", true},
		{"dialect/postgres", module + "/core", true},
		{"dialect/postgres", module + "/internal/sqltext", true},
		{"dialect/postgres", module + "/internal/servers", false},
		{"dialect/postgres", module + "/dialect/mysql", false},
		{"dialect/postgres", module + "/broker/kafka", false},
		{"dialect/postgres", "github.com/go-sql-driver/mysql", false},
		{"dialect/oracle", "github.com/godror/godror", false},
		{"broker/kafka", "github.com/segmentio/kafka-go/protocol", true},
		{"broker/kafka", "github.com/segmentio/kafka-gogo", false},
		{"broker/kafka", module + "/internal/sqltext", false},
		{"broker/kafka", module + "/inbox", false},
		{"conformance", module + "/inbox", true},
		{"conformance", module + "/dialect/sqlite", false},
		{"inbox", "github.com/segmentio/kafka-go", false},
		{"inbox/kafka", "github.com/segmentio/kafka-go", true},
		{"config", module + "/dialect/postgres", false},
		{"config/all", module + "/broker/kafka", true},
		{"cmd/lockstep", module + "/dialect/postgres", false},
		{"cmd/lockstep", "github.com/spf13/cobra", true},
		{"examples/orders", "example.com/anything", true},
		{"examples/orders", module + "/internal/sqltext", false},
		{"internal/sqltext", "example.com/anything", true},
		{"internal/sqltext", module + "/dialect/postgres", false},
	} {
		got := violations(module+"/"+test.importer, []string{test.imported})
		if (len(got) == 0) != test.allowed {
			t.Errorf("%s → %s: %q, want allowed %t", test.importer, test.imported, got, test.allowed)
		}
	}
	for _, unknown := range []string{module, module + "/util", module + "/cmd/other", module + "/coredump"} {
		if len(violations(unknown, nil)) == 0 {
			t.Errorf("%s needs no rule, want it to", unknown)
		}
	}
}
