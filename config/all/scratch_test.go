package all_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"
	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/dialect/mysql"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func scratchName() string { return "lockstep_verify_" + strings.ToLower(rand.Text())[:16] + "_" }

// holder stands before a server. It holds the first request that contains the marker, tells of it, and passes it on when the
// client has left, or has waited for a while: as a slow network does.
type holder struct {
	server, marker string
	heldFor        time.Duration
	told           func()

	once     sync.Once
	handlers sync.WaitGroup
	listener net.Listener
}

// hold keeps a client that does not leave waiting for so long. One that leaves is noticed at once.
func hold(t *testing.T, server, marker string, heldFor time.Duration, told func()) *holder {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{server: server, marker: marker, heldFor: heldFor, told: told, listener: listener}
	h.handlers.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			h.handlers.Go(func() { h.pass(t, client) })
		}
	})
	t.Cleanup(func() { listener.Close() })
	return h
}

func (h *holder) address() string { return h.listener.Addr().String() }

// settled returns when all that was held was carried out. The clients have closed their connections.
func (h *holder) settled() {
	h.listener.Close()
	h.handlers.Wait()
}

func (h *holder) pass(t *testing.T, client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", h.server)
	if err != nil {
		t.Error(err)
		return
	}
	answers := make(chan struct{}, 1)
	var answering sync.WaitGroup
	answering.Go(func() {
		for buffer := make([]byte, 64<<10); ; {
			n, err := server.Read(buffer)
			if err != nil {
				client.Close()
				close(answers)
				return
			}
			_, _ = client.Write(buffer[:n]) // it may have left
			select {
			case answers <- struct{}{}:
			default:
			}
		}
	})
	defer answering.Wait()
	defer server.Close()
	for buffer := make([]byte, 1<<20); ; {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		held := false
		if bytes.Contains(buffer[:n], []byte(h.marker)) {
			h.once.Do(func() { held = true })
		}
		if !held {
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
			continue
		}
		h.told()
		_ = client.SetReadDeadline(time.Now().Add(h.heldFor))
		for err == nil {
			var more int
			more, err = client.Read(buffer[n:])
			n += more
		}
		_ = client.SetReadDeadline(time.Time{})
		if !isTimeout(err) {
			time.Sleep(200 * time.Millisecond) // not to wait for something: packets arrive after who sent them has left
		}
		select {
		case <-answers: // of what came before
		default:
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
		if !isTimeout(err) {
			<-answers // it was carried out
			return
		}
	}
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

// An interrupt while the server is being asked to make tables: whoever left then would drop what is not there yet.
func TestAnInterruptedScratchLeavesNoTables(t *testing.T) {
	for name, address := range map[string]string{
		"postgres": servers.PostgresSchema(t),
		"mysql":    servers.MySQLURL(t),
		"mariadb":  servers.MariaDBURL(t),
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			u, err := url.Parse(address)
			if err != nil {
				t.Fatal("the server's address cannot be parsed")
			}
			h := hold(t, u.Host, "CREATE TABLE", 300*time.Millisecond, interrupt)
			dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer dialect.Close()
			prefix := scratchName()
			s, err := dialect.(config.ScratchDialect).Scratch(ctx, prefix, func(string) (string, error) { return h.address(), nil })
			if err == nil {
				err = s.Remove(context.WithoutCancel(ctx))
			}
			if ctx.Err() == nil {
				t.Fatalf("it was not interrupted: %v", err)
			}
			h.settled()
			if left := tablesOf(t, address, prefix); len(left) > 0 {
				t.Errorf("%q are left, after %v", left, err)
			}
		})
	}
}

// What is there of an outbox when a part of it cannot be made is removed again.
func TestAScratchThatFailsHalfWayLeavesNoTables(t *testing.T) {
	for name, address := range map[string]string{
		"postgres": servers.PostgresSchema(t),
		"mysql":    servers.MySQLURL(t),
		"mariadb":  servers.MariaDBURL(t),
	} {
		t.Run(name, func(t *testing.T) {
			dialect, err := all.Registry().OpenDialect(config.NewURL(address), config.Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer dialect.Close()
			prefix := scratchName()
			execute(t, databasePool(t, address), "CREATE TABLE "+prefix+"outbox_lease (nothing int)")
			if s, err := dialect.(config.ScratchDialect).Scratch(t.Context(), prefix, nil); err == nil {
				t.Error("an outbox was made around a table that is none of an outbox", s.Remove(t.Context()))
			}
			if left := tablesOf(t, address, prefix); len(left) > 0 {
				t.Errorf("%q are left", left)
			}
		})
	}
}

// databasePool is an application's way to the server.
func databasePool(t *testing.T, address string) *sql.DB {
	t.Helper()
	if strings.HasPrefix(address, "postgres") {
		return pool(t, "postgres", address)
	}
	db, err := mysql.OpenDB(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func tablesOf(t *testing.T, address, prefix string) (tables []string) {
	t.Helper()
	rows, err := databasePool(t, address).QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_name LIKE '"+prefix+"%'")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return tables
}

func TestAnInterruptedScratchLeavesNoExchange(t *testing.T) {
	address := servers.RabbitMQ(t)
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal("the server's address cannot be parsed")
	}
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	name := scratchName()
	h := hold(t, u.Host, name, 1500*time.Millisecond, interrupt) // longer than the client takes for its farewell
	u.Host = h.address()
	broker, err := all.Registry().OpenBroker(config.NewURL(u.String()), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := broker.(config.ScratchBroker).ScratchTopic(ctx, name, nil)
	if err == nil {
		err = s.Remove(context.WithoutCancel(ctx))
	}
	if ctx.Err() == nil {
		t.Fatalf("it was not interrupted: %v", err)
	}
	h.settled()
	expectNoExchange(t, address, name)
}

// expectNoExchange looks for an exchange and a queue.
func expectNoExchange(t *testing.T, address, name string) {
	t.Helper()
	conn, dialled := amqp091.Dial(address)
	if dialled != nil {
		t.Fatal(dialled)
	}
	defer conn.Close()
	for what, declare := range map[string]func(c *amqp091.Channel) error{
		"exchange": func(c *amqp091.Channel) error {
			return c.ExchangeDeclarePassive(name, "topic", true, false, false, false, nil)
		},
		"queue": func(c *amqp091.Channel) error {
			_, err := c.QueueDeclarePassive(name, true, false, false, false, nil)
			return err
		},
	} {
		channel, opened := conn.Channel()
		if opened != nil {
			t.Fatal(opened)
		}
		if declare(channel) == nil {
			t.Errorf("the %s %s is left", what, name)
		}
	}
}

func TestAnInterruptedScratchLeavesNoTopic(t *testing.T) {
	address := servers.Kafka(t)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	name := scratchName()
	h := hold(t, address, name, 300*time.Millisecond, interrupt)
	broker := all.KafkaThrough(address, func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, h.address())
	})
	s, err := broker.ScratchTopic(ctx, name, nil)
	if err == nil {
		err = s.Remove(context.WithoutCancel(ctx))
	}
	if ctx.Err() == nil {
		t.Fatalf("it was not interrupted: %v", err)
	}
	h.settled()
	expectNoTopic(t, address, name)
}

// A cluster may be far away, or busy: what takes a while is no error.
func TestAScratchTopicOfAClusterThatIsFarAway(t *testing.T) {
	t.Parallel()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	const metadata = 3
	cluster.ControlKey(metadata, func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		cluster.SleepControl(func() { time.Sleep(150 * time.Millisecond) }) // not to wait for something: it is the distance
		return nil, nil, false
	})
	broker := all.KafkaThrough(cluster.ListenAddrs()[0], (&net.Dialer{}).DialContext)
	s, err := broker.ScratchTopic(t.Context(), scratchName(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(t.Context()); err != nil {
		t.Error(err)
	}
}

// expectNoTopic looks for a topic until there is none.
func expectNoTopic(t *testing.T, address, name string) {
	t.Helper()
	client := &kafkago.Client{Addr: kafkago.TCP(address), Transport: &kafkago.Transport{}}
	defer client.Transport.(*kafkago.Transport).CloseIdleConnections()
	// A broker knows a little later than the controller what the controller did.
	within, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(50 * time.Millisecond); ; {
		cluster, asked := client.Metadata(within, &kafkago.MetadataRequest{})
		if asked != nil {
			t.Fatalf("the topic %s is left: %v", name, asked)
		}
		if !slices.ContainsFunc(cluster.Topics, func(topic kafkago.Topic) bool { return topic.Name == name }) {
			tick.Stop()
			return
		}
		<-tick.C
	}
}

// The second topic takes what the broker sends there and nothing else, and is removed with the first.
func TestASecondScratchTopicIsRemovedToo(t *testing.T) {
	for scheme, expectNothing := range map[string]func(t *testing.T, address, name string){
		"kafka://": expectNoTopic, "amqp://": expectNoExchange,
	} {
		t.Run(scheme, func(t *testing.T) {
			var address, target string
			if scheme == "kafka://" {
				address = servers.Kafka(t)
				target = scheme + address
			} else {
				address = servers.RabbitMQ(t)
				target = address
			}
			broker, err := all.Registry().OpenBroker(config.NewURL(target), nil)
			if err != nil {
				t.Fatal(err)
			}
			s, err := broker.(config.ScratchBroker).ScratchTopic(t.Context(), scratchName(), nil)
			if err != nil {
				t.Fatal(err)
			}
			other, stored, err := s.Other(t.Context())
			if err == nil {
				err = s.Broker.Publish(t.Context(), []core.Message{{ID: "here", Topic: s.Topic}, {ID: "there", Topic: other}})
			}
			var here, there []core.Message
			if err == nil {
				here, err = s.Stored(t.Context())
			}
			if err == nil {
				there, err = stored(t.Context())
			}
			if err != nil || len(here) != 1 || here[0].ID != "here" || len(there) != 1 || there[0].ID != "there" {
				t.Errorf("got %v and %v: %v", here, there, err)
			}
			if err := s.Remove(t.Context()); err != nil || !strings.Contains(s.Where, other) {
				t.Errorf("%s: %v", s.Where, err)
			}
			expectNothing(t, address, s.Topic)
			expectNothing(t, address, other)
		})
	}
}
