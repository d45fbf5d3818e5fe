package servers

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	kafkago "github.com/segmentio/kafka-go"
)

// freshWithin bounds making and removing a schema, database or topic. A lock that a test left behind ends the removal
// earlier, with the server's own words for it.
const (
	freshWithin   = time.Minute
	lockedSeconds = "5"
)

// PostgresSchema returns an address whose search_path is a new schema. The schema is dropped when the test ends.
func PostgresSchema(t TB) string {
	t.Helper()
	return postgresSchema(t, Postgres(t))
}

// Postgres18Schema is PostgresSchema on PostgreSQL 18.
func Postgres18Schema(t TB) string {
	t.Helper()
	return postgresSchema(t, Postgres18(t))
}

func postgresSchema(t TB, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatalf("the address of the PostgreSQL server cannot be parsed")
	}
	name := freshName()
	own := withParameter(u, "lock_timeout", lockedSeconds+"s")
	fresh(t, "postgres", own, "CREATE SCHEMA "+name, "DROP SCHEMA "+name+" CASCADE")
	return withParameter(u, "search_path", name)
}

func withParameter(u *url.URL, key, value string) string {
	changed := *u
	q := changed.Query()
	q.Set(key, value)
	changed.RawQuery = q.Encode()
	return changed.String()
}

// MySQLDatabase returns the address of a new database. The database is dropped when the test ends.
func MySQLDatabase(t TB) string {
	t.Helper()
	return mysqlDatabase(t, MySQL(t))
}

// MariaDBDatabase returns the address of a new database. The database is dropped when the test ends.
func MariaDBDatabase(t TB) string {
	t.Helper()
	return mysqlDatabase(t, MariaDB(t))
}

func mysqlDatabase(t TB, dsn string) string {
	t.Helper()
	c, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		t.Fatalf("the address of the MySQL or MariaDB server cannot be parsed")
	}
	own := c.Clone()
	if own.Params == nil {
		own.Params = map[string]string{}
	}
	own.Params["lock_wait_timeout"] = lockedSeconds
	name := freshName()
	fresh(t, "mysql", own.FormatDSN(), "CREATE DATABASE "+name, "DROP DATABASE "+name)
	c.DBName = name
	return c.FormatDSN()
}

// fresh executes create now and drop when the test ends.
func fresh(t TB, driver, dsn, create, drop string) {
	t.Helper()
	if err := execute(driver, dsn, create); err != nil {
		t.Fatalf("%s: %v", create, err)
	}
	t.Cleanup(func() {
		if err := execute(driver, dsn, drop); err != nil {
			t.Errorf("%s: %v (did the test leave a transaction open?)", drop, err)
		}
	})
}

func execute(driver, dsn, statement string) error {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	// Not the test's context: it has ended when the cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), freshWithin)
	defer cancel()
	_, err = db.ExecContext(ctx, statement)
	return err
}

// freshName needs no quoting on any server.
func freshName() string {
	return "lockstep_test_" + strings.ToLower(rand.Text())
}

// KafkaTopic creates a topic and returns its name once each of its partitions takes records. The topic is deleted when
// the test ends. A client that is older than the topic may not know it yet: kafka-go keeps metadata for seconds.
//
// config is what is set for the topic. Kafka answers a change of it before the topic obeys, and takes a message in between that is
// larger than the new limit.
func KafkaTopic(t TB, partitions int, config ...kafkago.ConfigEntry) string {
	t.Helper()
	address := Kafka(t)
	client, done := kafkaClient(address, freshWithin, freshMetadata)
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), freshWithin)
	defer cancel()
	name := freshName()
	if err := createTopic(ctx, client, name, partitions, config...); err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	t.Cleanup(func() {
		if err := deleteTopic(address, name); err != nil {
			t.Errorf("delete topic %s: %v", name, err)
		}
	})
	if err := awaitLeaders(ctx, client, name, partitions); err != nil {
		t.Fatalf("topic %s: %v", name, err)
	}
	return name
}

func createTopic(ctx context.Context, client *kafkago.Client, name string, partitions int, config ...kafkago.ConfigEntry) error {
	return onceLetIn(ctx, func() error {
		created, err := client.CreateTopics(ctx, &kafkago.CreateTopicsRequest{
			Topics: []kafkago.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: config}},
		})
		if err != nil {
			return err
		}
		return created.Errors[name]
	})
}

func deleteTopic(address, name string) error {
	client, done := kafkaClient(address, freshWithin, freshMetadata)
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), freshWithin)
	defer cancel()
	return onceLetIn(ctx, func() error {
		deleted, err := client.DeleteTopics(ctx, &kafkago.DeleteTopicsRequest{Topics: []string{name}})
		if err != nil {
			return err
		}
		return deleted.Errors[name]
	})
}

// onceLetIn tries again while a broker answers that its controller has not let in yet: one that was just brought up, or
// that had no time for its heartbeats, paused or on a busy machine. kafka-go then says BrokerNotAvailable by itself.
func onceLetIn(ctx context.Context, try func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		var code kafkago.Error
		if !errors.As(err, &code) || !code.Temporary() && code != kafkago.BrokerNotAvailable {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

// awaitLeaders asks until every partition can be written to. The metadata is not enough: it names a leader a moment
// before that broker acts as one, and a record sent in between is refused.
func awaitLeaders(ctx context.Context, client *kafkago.Client, name string, partitions int) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		led, err := leaders(ctx, client, name, partitions)
		if led == partitions {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d partitions have a leader after %v: %w", led, partitions, freshWithin, cmp.Or(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// leaders counts the partitions whose leader answers as such, which it does for its newest offset. The error is one of
// those of the others.
func leaders(ctx context.Context, client *kafkago.Client, name string, partitions int) (led int, err error) {
	var newest []kafkago.OffsetRequest
	for partition := range partitions {
		newest = append(newest, kafkago.LastOffsetOf(partition))
	}
	answer, err := client.ListOffsets(ctx, &kafkago.ListOffsetsRequest{Topics: map[string][]kafkago.OffsetRequest{name: newest}})
	if err != nil {
		return 0, err
	}
	for _, p := range answer.Topics[name] {
		if p.Error == nil {
			led++
		} else {
			err = p.Error
		}
	}
	return led, err
}
