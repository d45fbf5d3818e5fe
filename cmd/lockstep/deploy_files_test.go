package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/lockstep-go/lockstep/config"
)

func fileOf(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// only returns what the one match of pattern in text has captured.
func only(t *testing.T, text, pattern string) string {
	t.Helper()
	found := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("%s is found %d times, want once", pattern, len(found))
	}
	return found[0][1]
}

// The image runs what there is, as nobody, and is given the time to drain.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := fileOf(t, "deploy/Dockerfile")
	entry := strings.NewReplacer(`"`, "", ",", "").Replace(only(t, text, `(?m)^ENTRYPOINT \["/lockstep", (.*)\]$`))
	for _, line := range regexp.MustCompile(`(?m)^# docker run .* lockstep( --?.*)?$`).FindAllStringSubmatch(text, -1) {
		if err := parse(strings.Fields(entry + line[1])); err != nil {
			t.Errorf("%s: %v", line[0], err)
		}
	}
	if err := parse(strings.Fields(only(t, text, `--entrypoint /lockstep lockstep (.*)`))); err != nil {
		t.Error(err)
	}
	if port := only(t, text, `(?m)^EXPOSE (\d+)$`); !strings.HasSuffix(config.DefaultListen, ":"+port) {
		t.Errorf("port %s is exposed, and %s is listened on", port, config.DefaultListen)
	}
	if name := only(t, text, `(?m)^ENV (\w+)=/etc/lockstep/lockstep.yaml$`); name != configVariable {
		t.Errorf("the configuration's variable is %s, want %s", name, configVariable)
	}
	if user := only(t, text, `(?m)^USER (\d+):\d+$`); user == "0" {
		t.Error("it runs as root")
	}
	expectTimeToDrain(t, only(t, text, `--stop-timeout (\d+) `)+"s")
	for _, base := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(base[1], ":") || strings.HasSuffix(base[1], ":latest") {
			t.Errorf("the base %s is of no version", base[1])
		}
	}
	if version := "golang:" + only(t, fileOf(t, "go.mod"), `(?m)^go (\d+\.\d+)`); !strings.Contains(text, "FROM "+version+" ") {
		t.Errorf("it is not built by %s, as go.mod asks", version)
	}
}

func TestSystemdUnit(t *testing.T) {
	t.Parallel()
	text := fileOf(t, "deploy/lockstep-relay.service")
	if err := parse(strings.Fields(only(t, text, `(?m)^ExecStart=/usr/local/bin/lockstep (.*)$`))); err != nil {
		t.Error(err)
	}
	expectTimeToDrain(t, only(t, text, `(?m)^TimeoutStopSec=(\S+)$`))
	unit, _, _ := strings.Cut(text, "[Service]")
	if limit := only(t, unit, `(?m)^StartLimitIntervalSec=(\S+)$`); limit != "0" {
		t.Errorf("systemd gives up after some starts within %s", limit)
	}
}

// expectTimeToDrain fails the test where a relay is killed while it drains, as long as it may by default.
func expectTimeToDrain(t *testing.T, given string) {
	t.Helper()
	drain, err := time.ParseDuration(only(t, fileOf(t, "config/doc.go"), `drain_timeout: (\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	if left, err := time.ParseDuration(given); err != nil || left <= drain {
		t.Errorf("it is killed after %v (%v), want more than the %v that it may drain", left, err, drain)
	}
}

// compose.yaml has the servers of scripts/services, at the same ports.
func TestCompose(t *testing.T) {
	t.Parallel()
	var compose struct {
		Services map[string]struct{ Ports []string }
	}
	if err := yaml.Unmarshal([]byte(fileOf(t, "compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(only(t, fileOf(t, "scripts/services"), `(?m)^default_servers=\(([a-z0-9 ]+)\)$`))
	for _, name := range names {
		port := only(t, fileOf(t, "scripts/services.d/"+name+".sh"), name+`_port\(\) \{ echo (\d+); \}`)
		want := "127.0.0.1:${LOCKSTEP_PORT_" + strings.ToUpper(name) + ":-" + port + "}:"
		if !slices.ContainsFunc(compose.Services[name].Ports, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("%s: got ports %q, want one that begins with %s", name, compose.Services[name].Ports, want)
		}
	}
	for name := range compose.Services {
		if !slices.Contains(names, name) {
			t.Errorf("scripts/services has no %s", name)
		}
	}
}
