package kafka

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

// Config says how to reach the cluster.
type Config struct {
	// Brokers are the bootstrap servers, each host:port. Required.
	Brokers []string
	// ClientID names the relay in the cluster's logs, metrics and quotas. Defaults to "lockstep".
	ClientID string
	// TLS makes the connections encrypted, and the servers' certificates verified: &tls.Config{} against the system's
	// authorities, RootCAs against one's own. Certificates are the client's. Defaults to none: plain text.
	TLS *tls.Config
	// SASL says who the relay is: [Plain], [ScramSHA256], [ScramSHA512], or any other mechanism of kafka-go. Defaults to
	// none.
	SASL sasl.Mechanism
	// Dial makes the connections, to the bootstrap servers and to those that the cluster names: through a tunnel or a
	// proxy, for instance. TLS and SASL are spoken over what it returns. Called concurrently. Defaults to TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Compression is that of the record batches. Defaults to none.
	Compression kafkago.Compression
	// CloudEventsSource is the source attribute of the CloudEvents as which messages are sent, a URI reference such as
	// /shop/orders. Defaults to none: messages carry native headers.
	CloudEventsSource string
	// Logger is told what an operator wants to know and no error tells: that a topic has grown, that the cluster does
	// not let the relay shut out its predecessors. Defaults to slog.Default().
	Logger *slog.Logger
}

// Validate reports every field that is out of range.
func (c Config) Validate() error {
	var problems []error
	if len(c.Brokers) == 0 {
		problems = append(problems, errors.New("Brokers is empty: name at least one host:port"))
	}
	for _, address := range c.Brokers {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			problems = append(problems, fmt.Errorf("Brokers has the entry %q: name each as host:port", address))
		}
	}
	if c.TLS != nil && c.TLS.InsecureSkipVerify && c.TLS.VerifyConnection == nil && c.TLS.VerifyPeerCertificate == nil {
		problems = append(problems, errors.New("TLS.InsecureSkipVerify would trust any server: put the authority that signed the servers' certificates into TLS.RootCAs"))
	}
	if c.Compression != 0 && c.Compression.Codec() == nil {
		problems = append(problems, fmt.Errorf("Compression is %d: want one of kafka-go's (Gzip, Snappy, Lz4, Zstd)", int(c.Compression)))
	}
	if c.CloudEventsSource != "" {
		if err := cloudevents.ValidateSource(c.CloudEventsSource); err != nil {
			problems = append(problems, fmt.Errorf("CloudEventsSource %w", err))
		}
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	c.Brokers = slices.Clone(c.Brokers)
	c.ClientID = cmp.Or(c.ClientID, "lockstep")
	c.Logger = cmp.Or(c.Logger, slog.Default())
	return c
}

// Plain is the mechanism PLAIN. Whoever can read the connection can read the password, so use it with TLS.
func Plain(user, password string) sasl.Mechanism {
	return plain.Mechanism{Username: user, Password: password}
}

// ScramSHA256 is the mechanism SCRAM-SHA-256. The error says which characters cannot be in a name or password.
func ScramSHA256(user, password string) (sasl.Mechanism, error) {
	return scram.Mechanism(scram.SHA256, user, password)
}

// ScramSHA512 is the mechanism SCRAM-SHA-512, and otherwise as [ScramSHA256].
func ScramSHA512(user, password string) (sasl.Mechanism, error) {
	return scram.Mechanism(scram.SHA512, user, password)
}
