package kafka_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func openWith(t testing.TB, config kafka.Config) *kafka.Broker {
	t.Helper()
	b, err := kafka.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// trusting returns a TLS configuration that knows the server's authority.
func trusting(t *testing.T, authority string) *tls.Config {
	t.Helper()
	pem, err := os.ReadFile(authority)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatalf("%s has no certificate", authority)
	}
	return &tls.Config{RootCAs: pool}
}

// addUser makes a user of SCRAM, with both hashes.
func addUser(t *testing.T, name, password string) {
	t.Helper()
	const iterations = 4096
	transport := &kafkago.Transport{}
	defer transport.CloseIdleConnections()
	client := &kafkago.Client{Addr: kafkago.TCP(servers.Kafka(t)), Transport: transport, Timeout: longEnough}
	salt := []byte(rand.Text())
	key256, err256 := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	key512, err512 := pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	if err := errors.Join(err256, err512); err != nil {
		t.Fatal(err)
	}
	for mechanism, salted := range map[kafkago.ScramMechanism][]byte{
		kafkago.ScramMechanismSha256: key256, kafkago.ScramMechanismSha512: key512,
	} {
		answer, err := client.AlterUserScramCredentials(t.Context(), &kafkago.AlterUserScramCredentialsRequest{
			Upsertions: []kafkago.UserScramCredentialsUpsertion{
				{Name: name, Mechanism: mechanism, Iterations: iterations, Salt: salt, SaltedPassword: salted},
			},
		})
		if err == nil {
			err = answer.Results[0].Error
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func scram(t *testing.T, mechanism func(user, password string) (sasl.Mechanism, error), user, password string) sasl.Mechanism {
	t.Helper()
	m, err := mechanism(user, password)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestTLSAndSASL(t *testing.T) {
	t.Parallel()
	address, authority := servers.KafkaSASL(t)
	topic := servers.KafkaTopic(t, 1)
	const password = "geheim, with a comma"
	addUser(t, "carrier", password)
	known := trusting(t, authority)
	for _, tt := range []struct {
		name string
		tls  *tls.Config
		sasl sasl.Mechanism
		want string // in the error
	}{
		{"PLAIN", known, kafka.Plain("lockstep", "lockstep"), ""},
		{"SCRAM-SHA-256", known, scram(t, kafka.ScramSHA256, "carrier", password), ""},
		{"SCRAM-SHA-512", known, scram(t, kafka.ScramSHA512, "carrier", password), ""},
		{"a wrong password", known, kafka.Plain("lockstep", "swordfish"), "correct the relay's user or password"},
		{"a wrong password of SCRAM", known, scram(t, kafka.ScramSHA512, "carrier", "swordfish"), "correct the relay's user or password"},
		{"a mechanism that the server does not have", known, renamed{kafka.Plain("lockstep", "lockstep")}, "set SASL to a mechanism that the listener takes"},
		{"nobody", known, nil, "wants TLS or a login"},
		{"an unknown authority", &tls.Config{}, kafka.Plain("lockstep", "lockstep"), "certificate"},
		{"another host", &tls.Config{RootCAs: known.RootCAs, ServerName: "kafka.example"}, kafka.Plain("lockstep", "lockstep"), "kafka.example"},
		{"no TLS", nil, kafka.Plain("lockstep", "lockstep"), "wants TLS or a login"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), longEnough)
			defer cancel()
			b := openWith(t, kafka.Config{Brokers: []string{address}, TLS: tt.tls, SASL: tt.sasl})
			err := resultsOf(t, b.Publish(ctx, []core.Message{{ID: tt.name, Topic: topic}}), 1)[0]
			if tt.want == "" {
				expectClass(t, tt.name, err, nil)
				return
			}
			expectClass(t, tt.name, err, core.ErrUnavailable)
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "swordfish") {
				t.Errorf("got %q, want %q in it and no password", err, tt.want)
			}
		})
	}
}

// A mechanism of one's own, told what it is asked and where.
type homemade struct{ sasl.Mechanism }

func (h homemade) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	if sasl.MetadataFromContext(ctx) == nil {
		return nil, nil, errors.New("nobody says which host it is")
	}
	return h.Mechanism.Start(ctx)
}

// renamed is a mechanism that no server has.
type renamed struct{ sasl.Mechanism }

func (renamed) Name() string { return "ANOTHER" }

func TestAMechanismOfOnesOwn(t *testing.T) {
	t.Parallel()
	address, authority := servers.KafkaSASL(t)
	topic := servers.KafkaTopic(t, 1)
	b := openWith(t, kafka.Config{
		Brokers: []string{address}, TLS: trusting(t, authority), SASL: homemade{kafka.Plain("lockstep", "lockstep")},
	})
	if err := b.Publish(t.Context(), []core.Message{{ID: "a", Topic: topic}}); err != nil {
		t.Error(err)
	}
}

// A cluster that falls silent while a client logs in: kafka-go forgets the connection, but not its goroutine.
func TestASilentLoginIsGivenUp(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 100)
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return watchedListener{l, ended}, err
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.EnableSASL(),
		kfake.Superuser("PLAIN", "lockstep", "lockstep"), kfake.SeedTopics(1, "orders"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	const saslHandshake = 17
	cluster.ControlKey(saslHandshake, func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		return nil, nil, true
	})
	b := openWith(t, kafka.Config{Brokers: cluster.ListenAddrs(), SASL: kafka.Plain("lockstep", "lockstep")})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got := resultsOf(t, b.Publish(ctx, []core.Message{{ID: "a", Topic: "orders"}}), 1)[0]
	expectClass(t, "silence", got, core.ErrUnavailable)
	select {
	case <-ended:
	case <-time.After(longEnough):
		t.Error("the client keeps a connection that it could not log in on")
	}
}

// watchedListener tells when the server has closed a connection, because its client did.
type watchedListener struct {
	net.Listener
	ended chan struct{}
}

func (l watchedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return watchedConn{c, l.ended}, err
}

type watchedConn struct {
	net.Conn
	ended chan struct{}
}

func (c watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.ended <- struct{}{}
	}
	return n, err
}

// Rule 28: what the relay's user may not write is refused, and not passed over.
func TestATopicThatMayNotBeWritten(t *testing.T) {
	t.Parallel()
	acl := func(name string, operation kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral,
			Operation: operation, Allow: true}
	}
	cluster, err := kfake.NewCluster(kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "root", "root"),
		kfake.SeedTopics(1, "mine", "shown", "hidden"),
		kfake.User("PLAIN", "lockstep", "lockstep", acl("mine", kmsg.ACLOperationWrite), acl("shown", kmsg.ACLOperationDescribe)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := openWith(t, kafka.Config{Brokers: cluster.ListenAddrs(), SASL: kafka.Plain("lockstep", "lockstep")})
	got := resultsOf(t, b.Publish(t.Context(), []core.Message{{ID: "a", Topic: "mine"}, {ID: "b", Topic: "shown"}, {ID: "c", Topic: "hidden"}}), 3)
	expectClass(t, "mine", got[0], nil)
	expectClass(t, "shown", got[1], core.ErrUnavailable)
	expectClass(t, "hidden", got[2], core.ErrUnavailable)
	for _, err := range got[1:] {
		if !strings.Contains(err.Error(), "grant the relay") {
			t.Errorf("%q does not say what to grant", err)
		}
	}
}
