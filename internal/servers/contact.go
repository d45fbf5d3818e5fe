package servers

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	mysqldriver "github.com/go-sql-driver/mysql"
	"github.com/lib/pq"
	amqp091 "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"
)

// The causes of parse errors are left out below: they quote what they could not parse, passwords included.

func contactPostgres(dsn string, limit time.Duration) error {
	u, err := parseURL(dsn, "postgres", "postgresql")
	if err != nil {
		return err
	}
	// lib/pq ignores the context while a peer is silent; its own time-out bounds the handshake.
	connector, err := pq.NewConnector(withParameter(u, "connect_timeout", strconv.Itoa(int(limit.Seconds()))))
	if err != nil {
		return errors.New("is not accepted by lib/pq")
	}
	return contactSQL(connector, place(u), limit)
}

func contactMySQL(dsn string, limit time.Duration) error {
	c, err := mysqldriver.ParseDSN(dsn)
	if err != nil {
		return errors.New("cannot be parsed; want user:password@tcp(host:port)/database")
	}
	c.Timeout, c.ReadTimeout, c.WriteTimeout = limit, limit, limit
	c.Logger = &mysqldriver.NopLogger{} // what it would log is in the error that is returned
	connector, err := mysqldriver.NewConnector(c)
	if err != nil {
		return errors.New("is not accepted by go-sql-driver/mysql")
	}
	return contactSQL(connector, fmt.Sprintf("%s@%s/%s", c.User, c.Addr, c.DBName), limit)
}

func contactSQL(connector driver.Connector, place string, limit time.Duration) error {
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return noConnection(place, limit, db.PingContext(ctx))
}

func contactRabbitMQ(dsn string, limit time.Duration) error {
	u, err := parseURL(dsn, "amqp", "amqps")
	if err != nil {
		return err
	}
	conn, err := amqp091.DialConfig(dsn, amqp091.Config{Dial: amqp091.DefaultDial(limit)})
	if err != nil {
		return noConnection(place(u), limit, err)
	}
	return noConnection(place(u), limit, conn.Close())
}

func contactKafka(dsn string, limit time.Duration) error {
	if _, _, err := net.SplitHostPort(dsn); err != nil {
		return errors.New("cannot be parsed; want host:port")
	}
	// kafka-go gives a server the life of the metadata for an answer.
	client, done := kafkaClient(dsn, limit, limit)
	defer done()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := client.Metadata(ctx, &kafkago.MetadataRequest{})
	return noConnection(dsn, limit, err)
}

// freshMetadata is a short life of the metadata, which lets a poll see what has changed, and long enough for an answer.
const freshMetadata = time.Second

// kafkaClient returns a client with a transport of its own, so that done ends all that runs on its behalf.
func kafkaClient(address string, timeout, metadata time.Duration) (client *kafkago.Client, done func()) {
	transport := &kafkago.Transport{DialTimeout: timeout, MetadataTTL: metadata}
	return &kafkago.Client{Addr: kafkago.TCP(address), Timeout: timeout, Transport: transport}, transport.CloseIdleConnections
}

func parseURL(dsn string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(dsn)
	if err == nil && u.Host != "" && slices.Contains(schemes, u.Scheme) {
		return u, nil
	}
	return nil, fmt.Errorf("cannot be parsed; want %s://user:password@host:port/name", schemes[0])
}

// place names what a URL points at without its password, which may also stand among the parameters.
func place(u *url.URL) string {
	return fmt.Sprintf("%s@%s%s", u.User.Username(), u.Host, u.Path)
}

func noConnection(place string, limit time.Duration, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("no connection to %s (waited at most %v; see `scripts/services status`): %w", place, limit, err)
}
