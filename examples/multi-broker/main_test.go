package main

import (
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/internal/servers"
)

// patience is more than anything here takes.
const patience = time.Minute

func TestTheConfigurationsDifferInOneLine(t *testing.T) {
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %q, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
		if len(lines) != 2 || lines[0] != "database: sqlite:${SHOP_DB}" || !strings.HasPrefix(lines[1], "broker: ") {
			t.Errorf("%s is %q, want the same database, and a broker", file, lines)
		}
	}
}

func TestKafka(t *testing.T)     { testKafka(t, "kafka.yaml") }
func TestWatermill(t *testing.T) { testKafka(t, "watermill.yaml") }

func testKafka(t *testing.T, file string) {
	topic := servers.KafkaTopic(t, 1)
	deliver(t, file, topic, "42", "KAFKA="+servers.Kafka(t))
	reader := kafkago.NewReader(kafkago.ReaderConfig{Brokers: []string{servers.Kafka(t)}, Topic: topic, MaxWait: time.Second})
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m, err := reader.ReadMessage(ctx)
	if err != nil || string(m.Key) != "42" || string(m.Value) != "a book" {
		t.Errorf("got %s of %s and %v, want a book of 42", m.Value, m.Key, err)
	}
}

func TestRabbitMQ(t *testing.T) {
	connection, err := amqp091.Dial(servers.RabbitMQ(t))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	channel, err := connection.Channel()
	if err != nil {
		t.Fatal(err)
	}
	name := "lockstep_test_" + strings.ToLower(rand.Text())
	if _, err := channel.QueueDeclare(name, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if _, err := channel.QueueDelete(name, false, false, false); err != nil {
			t.Error(err)
		}
	}()
	deliver(t, "rabbitmq.yaml", "amq.default", name, "RABBITMQ="+servers.RabbitMQ(t))
	m, there, err := channel.Get(name, true)
	if err != nil || !there || string(m.Body) != "a book" {
		t.Errorf("got %s, %t and %v, want a book", m.Body, there, err)
	}
}

func TestStdout(t *testing.T) {
	out := deliver(t, "stdout.yaml", "orders", "42")
	if !strings.Contains(out, `"topic":"orders","key":"42"`) || !strings.Contains(out, `"payload":"a book"`) {
		t.Errorf("got %s, want a line of JSON", out)
	}
}

// deliver runs the program with a configuration, and returns what it printed.
func deliver(t *testing.T, file, topic, key string, environment ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", ".", "-config", file, "-topic", topic, "-key", key)
	cmd.Env = append(append(os.Environ(), "SHOP_DB="+filepath.Join(t.TempDir(), "shop.db")), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "delivered\n") {
		t.Fatalf("%s: got %v and\n%s", file, err, out)
	}
	return string(out)
}
