package servers_test

import (
	"slices"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/internal/dose"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestFreshDatabases(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name, driver string
		server       func(servers.TB) string
		fresh        func(servers.TB) string
		here, find   string
	}{
		{"postgres", "postgres", servers.Postgres, servers.PostgresSchema,
			"SELECT current_schema()", "SELECT count(*) FROM pg_namespace WHERE nspname = $1"},
		{"mysql", "mysql", servers.MySQL, servers.MySQLDatabase,
			"SELECT database()", "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?"},
		{"mariadb", "mysql", servers.MariaDB, servers.MariaDBDatabase,
			"SELECT database()", "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			server := open(t, kind.driver, kind.server(t))
			var name string
			var there int
			ended := play(func(fake servers.TB) {
				db := open(t, kind.driver, kind.fresh(fake))
				if _, err := db.ExecContext(t.Context(), "CREATE TABLE full_of (nothing INT)"); err != nil {
					fake.Fatalf("create table: %v", err)
				}
				if err := db.QueryRowContext(t.Context(), kind.here).Scan(&name); err != nil {
					fake.Fatalf("%s: %v", kind.here, err)
				}
				if err := server.QueryRowContext(t.Context(), kind.find, name).Scan(&there); err != nil || there != 1 {
					fake.Fatalf("%q is there %d times (%v) during the test, want once", name, there, err)
				}
			})
			if ended.failed != "" {
				t.Fatal(ended.failed)
			}
			if err := server.QueryRowContext(t.Context(), kind.find, name).Scan(&there); err != nil || there != 0 {
				t.Errorf("%q is there %d times (%v) after the test, want never", name, there, err)
			}
		})
	}
}

// TestKafkaTopicTakesRecords writes to each partition at once: a broker names itself leader in the metadata a moment
// before it acts as one.
func TestKafkaTopicTakesRecords(t *testing.T) {
	t.Parallel()
	const partitions = 20
	address := servers.Kafka(t)
	for range dose.Of(t, 5, 100) {
		ended := play(func(fake servers.TB) {
			topic := servers.KafkaTopic(fake, partitions)
			for partition := range partitions {
				if err := produce(t, address, topic, partition); err != nil {
					fake.Errorf("produce to partition %d: %v; ", partition, err)
				}
			}
		})
		if ended.failed != "" {
			t.Fatal(ended.failed)
		}
	}
}

func produce(t *testing.T, address, topic string, partition int) error {
	t.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := kafkago.Client{Addr: kafkago.TCP(address), Timeout: time.Minute, Transport: transport}
	produced, err := client.Produce(t.Context(), &kafkago.ProduceRequest{
		Topic: topic, Partition: partition, RequiredAcks: kafkago.RequireAll,
		Records: kafkago.NewRecordReader(kafkago.Record{Value: kafkago.NewBytes([]byte("first"))}),
	})
	if err != nil {
		return err
	}
	return produced.Error
}

func TestKafkaTopic(t *testing.T) {
	t.Parallel()
	address := servers.Kafka(t)
	var topic string
	ended := play(func(fake servers.TB) {
		topic = servers.KafkaTopic(fake, 5)
		if got := partitions(t, address, topic); got != 5 {
			fake.Fatalf("%d partitions during the test, want 5", got)
		}
	})
	if ended.failed != "" {
		t.Fatal(ended.failed)
	}
	// A deletion is answered before it has reached the metadata.
	for deadline := time.Now().Add(time.Minute); partitions(t, address, topic) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("the topic is still there a minute after the test")
		}
	}
}

// partitions asks on a connection of its own: a transport that is kept answers from its memory.
func partitions(t *testing.T, address, topic string) int {
	t.Helper()
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := kafkago.Client{Addr: kafkago.TCP(address), Timeout: time.Minute, Transport: transport}
	answer, err := client.Metadata(t.Context(), &kafkago.MetadataRequest{})
	if err != nil {
		t.Error(err)
		return 0
	}
	i := slices.IndexFunc(answer.Topics, func(found kafkago.Topic) bool { return found.Name == topic })
	if i < 0 {
		return 0
	}
	return len(answer.Topics[i].Partitions)
}

// TestControlOfTheRealScript uses the one verb that harms nobody: the server is up already.
func TestControlOfTheRealScript(t *testing.T) {
	servers.Kafka(t)
	servers.Control(t, "up", "kafka")
}
