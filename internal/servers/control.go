package servers

import (
	"cmp"
	"context"
	"os"
	"os/exec"
	"strings"
	"time"
)

// ControlVariable names the environment variable that holds the path of scripts/services.
const ControlVariable = "LOCKSTEP_TEST_SERVICES"

// undo says which verb ends the harm that a verb does.
var undo = map[string]string{"kill": "up", "pause": "resume", "resume": "", "up": ""}

// controlWithin is generous: bringing a server up may first have to recover its data.
const controlWithin = 6 * time.Minute

// Control does harm to a server, or ends it: it runs `scripts/services verb name`, where verb is kill, pause, resume
// or up. When the test ends, a killed server is brought up again and a paused one is resumed.
//
// Every test sees the harm, those of other packages as well. A test that calls Control is not parallel, and packages
// that use servers run one after another (scripts/test does so; by hand it is `go test -p 1`).
func Control(t TB, verb, name string) {
	t.Helper()
	undoing, ok := undo[verb]
	if !ok {
		t.Fatalf("servers.Control: no verb %q; want kill, pause, resume or up", verb)
	}
	if !known(name) {
		t.Fatalf("servers.Control: no server %q; want one of %s", name, allNames())
	}
	needs(t, name)
	script := os.Getenv(ControlVariable)
	if script == "" {
		missing(t, ControlVariable, name)
	}
	if undoing != "" {
		// Before the harm is done: a verb that failed halfway has to be undone too.
		t.Cleanup(func() {
			if out, err := runScript(script, undoing, name); err != nil {
				t.Errorf("%s %s %s: %v: %s", script, undoing, name, err, out)
			}
		})
	}
	if out, err := runScript(script, verb, name); err != nil {
		t.Fatalf("%s %s %s: %v: %s", script, verb, name, err, out)
	}
}

// RabbitMQControl runs rabbitmqctl on the RabbitMQ server and returns what it printed. The test undoes what it does.
func RabbitMQControl(t TB, args ...string) string {
	t.Helper()
	needs(t, "rabbitmq")
	script := os.Getenv(ControlVariable)
	if script == "" {
		missing(t, ControlVariable, "rabbitmq")
	}
	out, err := runScript(script, append([]string{"rabbitmqctl"}, args...)...)
	if err != nil {
		t.Fatalf("%s rabbitmqctl %s: %v: %s", script, args[0], err, out)
	}
	return out
}

// runScript returns what the script printed. The output goes to a file and not through a pipe: a server that was brought
// up may hold on to it, and then a pipe would keep us waiting, or end the server once we have gone.
func runScript(script string, args ...string) (string, error) {
	file, err := os.CreateTemp("", "lockstep-services-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	ctx, cancel := context.WithTimeout(context.Background(), controlWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, script, args...)
	cmd.Stdout, cmd.Stderr = file, file
	failure := cmd.Run()
	out, err := os.ReadFile(file.Name())
	return strings.TrimSpace(string(out)), cmp.Or(failure, err)
}
