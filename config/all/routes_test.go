package all_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// Topics are routed to real brokers of each kind, in one call, in a term as a relay begins it. RabbitMQ's exchange is missing, which
// it alone says.
func TestTopicsAreRoutedToEachKindOfBroker(t *testing.T) {
	t.Parallel()
	dir, topic, ours := t.TempDir(), servers.KafkaTopic(t, 1), servers.KafkaTopic(t, 1)
	content := strings.NewReplacer("{dir}", dir, "{kafka}", servers.Kafka(t), "{amqp}", servers.RabbitMQ(t), "{topic}", topic, "{ours}", ours).Replace(`
database: "sqlite:{dir}/app.db"
broker: "file:{dir}/rest.jsonl"
routes:
  - {topics: "{topic}", broker: "kafka://{kafka}"}
  - {topics: "{ours}", broker: "watermill+kafka://{kafka}"}
  - {topics: "missing.*", broker: "{amqp}"}
`)
	file := filepath.Join(dir, "lockstep.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := all.Registry().Load(config.Source{File: file})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := all.Registry().Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	broker, err := opened.Outboxes[0].Broker.(core.TermBroker).ForTerm(t.Context(), core.Term{Outbox: core.NewID(), Epoch: 1})
	if err != nil {
		t.Fatal(err)
	}
	var msgs []core.Message
	for _, topic := range []string{topic, ours, "missing." + topic, "rest"} {
		msgs = append(msgs, core.Message{ID: core.NewID(), Topic: topic, Key: "k", Payload: []byte("{}")})
	}
	results := core.Results(broker.Publish(t.Context(), msgs), len(msgs))
	for i, m := range msgs {
		if missing := strings.HasPrefix(m.Topic, "missing."); missing == (results[i] == nil) {
			t.Errorf("%s: %v", m.Topic, results[i])
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "rest.jsonl")); err != nil || !strings.Contains(string(text), msgs[3].ID) {
		t.Errorf("the rest is not in its file: %v, %s", err, text)
	}
}
