package all

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"

	"github.com/segmentio/kafka-go/sasl"

	"github.com/lockstep-go/lockstep/broker/kafka"
	"github.com/lockstep-go/lockstep/core"
)

func openKafka(u *url.URL, log *slog.Logger) (core.Broker, error) {
	brokers, err := hosts(u, "9092")
	if err != nil {
		return nil, err
	}
	p := parametersOf(u)
	c := kafka.Config{
		Brokers: brokers, ClientID: p.take("client_id"), CloudEventsSource: p.take("cloudevents_source"), Logger: log,
	}
	if name := p.take("compression", "gzip", "snappy", "lz4", "zstd"); name != "" {
		_ = c.Compression.UnmarshalText([]byte(name)) // what is none of them is refused by take
	}
	mechanism := p.take("sasl", "plain", "scram-sha-256", "scram-sha-512")
	ca, cert, key := "", "", ""
	if u.Scheme == "kafka+tls" {
		ca, cert, key = p.take("ca_file"), p.take("cert_file"), p.take("key_file")
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	if u.Path != "" && u.Path != "/" {
		return nil, errors.New("has a path: topics are those of the messages")
	}
	if c.SASL, err = mechanismOf(u, mechanism); err != nil {
		return nil, err
	}
	if u.Scheme == "kafka+tls" {
		if c.TLS, err = tlsOf(ca, cert, key); err != nil {
			return nil, err
		}
	}
	b, err := kafka.Open(c)
	if err != nil {
		return nil, err
	}
	return kafkaBroker{b, c}, nil
}

// mechanismOf never guesses: a password that is sent by another mechanism than was meant may be readable.
func mechanismOf(u *url.URL, name string) (sasl.Mechanism, error) {
	user := u.User.Username()
	password, given := u.User.Password()
	switch {
	case name == "" && u.User == nil:
		return nil, nil
	case name == "":
		return nil, errors.New("has a user and does not say how to log in: add ?sasl=scram-sha-512, scram-sha-256 or plain")
	case user == "" || !given:
		return nil, fmt.Errorf("has sasl=%s without user and password: write %s://user:password@host", name, u.Scheme)
	case name == "plain" && u.Scheme != "kafka+tls":
		return nil, errors.New("would send its password readably: use kafka+tls, or a scram mechanism")
	case name == "plain":
		return kafka.Plain(user, password), nil
	case name == "scram-sha-256":
		return kafka.ScramSHA256(user, password)
	}
	return kafka.ScramSHA512(user, password)
}

// tlsOf reads the authority that the servers' certificates are verified against, and the client's own certificate.
func tlsOf(ca, cert, key string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("needs ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("needs a certificate in PEM in ca_file: %s has none", ca)
		}
	}
	if (cert == "") != (key == "") {
		return nil, errors.New("needs cert_file and key_file together")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("needs cert_file and key_file: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
