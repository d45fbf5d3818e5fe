package amqp_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/inbox/amqp"
	"github.com/lockstep-go/lockstep/internal/inboxtest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// silent listens, and neither reads nor writes.
func silent(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener.Addr().String() // the system accepts for it
}

// A broker that accepts a connection and is silent, or stops reading, must not keep the loop waiting for good.
func TestASilentBrokerIsGivenUp(t *testing.T) {
	t.Parallel()
	loop, err := amqp.New(nil, nil, amqp.Config{URLs: []string{"amqp://host"}, Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	const soon, never = 20 * time.Millisecond, time.Hour
	reading, err := loop.Socket(t.Context(), silent(t), soon, never)
	if err != nil {
		t.Fatal(err)
	}
	defer reading.Close()
	if _, err := reading.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a handshake that nobody answers: got %v, want that its time is over", err)
	}
	writing, err := loop.Socket(t.Context(), silent(t), never, soon)
	if err != nil {
		t.Fatal(err)
	}
	defer writing.Close()
	for err == nil { // until the system has no room for more
		_, err = writing.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a write that nobody reads: got %v, want that its time is over", err)
	}
}

// RabbitMQ behind a proxy that ends TLS, as load balancers do. Its certificate is checked, against the configured authority.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u, err := url.Parse(w.url)
	if err != nil {
		t.Fatal(err)
	}
	var roots *x509.CertPool
	u.Scheme = "amqps"
	u.Host, roots = endTLS(t, u.Host)
	w.publish(t, core.Message{ID: "a"})
	log := inboxtest.NewLog()
	config := amqp.Config{URLs: []string{u.String()}, Queue: w.queue, Prefetch: 1, Logger: log.Logger()}
	stranger, err := amqp.New(w.Consumer, w.holding(effect), config)
	if err != nil {
		t.Fatal(err)
	}
	stop := inboxtest.Running(t, stranger)
	if line := log.Await(t, "not connected"); !strings.Contains(line, "certificate") {
		t.Errorf("an unknown authority: logged %q, want what is wrong with the certificate", line)
	}
	stop()
	w.ExpectOnce(t)
	config.TLS = &tls.Config{RootCAs: roots}
	friend, err := amqp.New(w.Consumer, w.holding(effect), config)
	if err != nil {
		t.Fatal(err)
	}
	stop = inboxtest.Running(t, friend)
	w.Await(t, 1)
	w.stopSettled(t, stop, 1)
	w.ExpectOnce(t, "a")
}

// endTLS returns the address of a proxy that ends TLS before server, and the authority of its certificate.
func endTLS(t *testing.T, server string) (address string, roots *x509.CertPool) {
	t.Helper()
	certified := httptest.NewTLSServer(nil) // who has a certificate for 127.0.0.1, and its authority
	defer certified.Close()
	return servers.EndTLS(t, server, certified.TLS.Certificates[0]), certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
}
