package servers_test

import (
	"database/sql"
	"io"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"

	"github.com/lockstep-go/lockstep/internal/servers"
)

// These say that each server is there and is what it claims to be, before any adapter is blamed.

func TestPingPostgres(t *testing.T) {
	t.Parallel()
	if got := version(t, "postgres", servers.Postgres(t)); !strings.HasPrefix(got, "PostgreSQL ") {
		t.Errorf("version() = %q, want PostgreSQL", got)
	}
}

func TestPingPostgres18(t *testing.T) {
	t.Parallel()
	if got := version(t, "postgres", servers.Postgres18(t)); !strings.HasPrefix(got, "PostgreSQL 18") {
		t.Errorf("version() = %q, want PostgreSQL 18", got)
	}
}

func TestPingPgBouncer(t *testing.T) {
	t.Parallel()
	if got := version(t, "postgres", servers.PgBouncer(t)); !strings.HasPrefix(got, "PostgreSQL ") {
		t.Errorf("version() through it = %q, want PostgreSQL", got)
	}
}

func TestPingMySQL(t *testing.T) {
	t.Parallel()
	got := version(t, "mysql", servers.MySQL(t))
	if !strings.HasPrefix(got, "9.") || strings.Contains(got, "MariaDB") {
		t.Errorf("version() = %q, want MySQL 9", got)
	}
}

func TestPingMariaDB(t *testing.T) {
	t.Parallel()
	if got := version(t, "mysql", servers.MariaDB(t)); !strings.Contains(got, "MariaDB") {
		t.Errorf("version() = %q, want MariaDB", got)
	}
}

func version(t *testing.T, driver, dsn string) string {
	t.Helper()
	db := open(t, driver, dsn)
	var version string
	if err := db.QueryRowContext(t.Context(), "SELECT version()").Scan(&version); err != nil {
		t.Fatalf("SELECT version(): %v", err)
	}
	t.Log(version)
	return version
}

func open(t *testing.T, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestPingRabbitMQ(t *testing.T) {
	t.Parallel()
	conn, err := amqp091.Dial(servers.RabbitMQ(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, _ := conn.Properties["version"].(string); !strings.HasPrefix(got, "4.") {
		t.Errorf("server properties name version %q, want RabbitMQ 4", got)
	}
	channel, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if err := channel.Confirm(false); err != nil {
		t.Fatal(err)
	}
	queue, err := channel.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(t.Context(), "", queue.Name, true, false,
		amqp091.Publishing{Body: []byte("ping")})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := confirmation.WaitContext(t.Context())
	if err != nil || !stored {
		t.Fatalf("confirmed %t, %v; want true", stored, err)
	}
	got, ok, err := channel.Get(queue.Name, true)
	if err != nil || !ok || string(got.Body) != "ping" {
		t.Errorf("got %q, %t, %v; want the message published", got.Body, ok, err)
	}
}

func TestPingKafka(t *testing.T) {
	t.Parallel()
	topic := servers.KafkaTopic(t, 3)
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := kafkago.Client{Addr: kafkago.TCP(servers.Kafka(t)), Timeout: 10 * time.Second, Transport: transport}
	produced, err := client.Produce(t.Context(), &kafkago.ProduceRequest{
		Topic: topic, Partition: 2, RequiredAcks: kafkago.RequireAll,
		Records: kafkago.NewRecordReader(kafkago.Record{Value: kafkago.NewBytes([]byte("ping"))}),
	})
	if err != nil || produced.Error != nil {
		t.Fatalf("produce: %v, answer %+v", err, produced)
	}
	fetched, err := client.Fetch(t.Context(), &kafkago.FetchRequest{
		Topic: topic, Partition: 2, Offset: produced.BaseOffset, MinBytes: 1, MaxBytes: 1 << 20, MaxWait: 5 * time.Second,
	})
	if err != nil || fetched.Error != nil {
		t.Fatalf("fetch: %v, answer %+v", err, fetched)
	}
	record, err := fetched.Records.ReadRecord()
	if err != nil {
		t.Fatalf("read record: %v", err)
	}
	if got, err := io.ReadAll(record.Value); err != nil || string(got) != "ping" {
		t.Errorf("got %q, %v; want the record produced", got, err)
	}
}
