package kafka_test

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// consoleConsumer returns what Kafka's own console consumer prints of the first n records of a topic, a line each.
func consoleConsumer(t *testing.T, address, topic string, n int, more ...string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := append([]string{"-cp", filepath.Join(servers.KafkaLibs(t), "*"), "org.apache.kafka.tools.consumer.ConsoleConsumer",
		"--bootstrap-server", address, "--topic", topic, "--from-beginning", "--max-messages", fmt.Sprint(n), "--timeout-ms", "60000",
		"--formatter-property", "print.timestamp=true", "--formatter-property", "print.key=true",
		"--formatter-property", "print.headers=true", "--formatter-property", "print.partition=true"}, more...)
	cmd := exec.CommandContext(ctx, "java", args...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("the console consumer: %v: %s", err, complaints.String())
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// A consumer that knows nothing of Lockstep. The isolation level is its own business, since there are no transactions.
func TestKafkasConsoleConsumerReadsIt(t *testing.T) {
	t.Parallel()
	s := newSite(t, 1)
	o := s.owner(t)
	m := sample
	m.Topic = s.topic
	if err := o.term.Publish(t.Context(), []core.Message{m, {ID: "id-2", Topic: s.topic}}); err != nil {
		t.Fatal(err)
	}
	got := consoleConsumer(t, s.address, s.topic, 2, "--isolation-level", "read_committed")
	headers := "lockstep-id:id-1,content-type:application/json,empty:,event-type:order.paid"
	want := fmt.Sprintf("CreateTime:%d\tPartition:0\t%s\tKunde ß\t{\"a\":1}", enqueuedAt.UnixMilli(), headers)
	if len(got) != 2 || got[0] != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	if !strings.HasSuffix(got[1], "\tPartition:0\tlockstep-id:id-2\tnull\t") {
		t.Errorf("the least message: got %q", got[1])
	}
}
