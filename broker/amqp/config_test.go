package amqp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestConfigNamesEveryFault(t *testing.T) {
	for _, tt := range []struct {
		config amqp.Config
		want   []string
	}{
		{amqp.Config{}, []string{"URLs is empty"}},
		{amqp.Config{URLs: []string{"amqp://u:secret@h/", "", "http://u:secret@h/", "amqp://u:secret@h:port/", "amqp://u:sec%zzret@h/",
			"amqp://u:secret@/v", "amqp://u:secret@h/?heartbeat=soon", "amqp://u:secret@h/?auth_mechanism=magic", "amqp:u:secret"}, CloudEventsSource: "a b"},
			[]string{"URLs[1] ", "URLs[2] ", "URLs[3] ", "URLs[4] ", "URLs[5] ", "URLs[6] ", "URLs[7] ", "URLs[8] ", "CloudEventsSource "}},
	} {
		_, err := amqp.Open(tt.config)
		if err == nil {
			t.Errorf("Open(%d URLs): got nil", len(tt.config.URLs))
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not tell %q", err, want)
			}
		}
		if strings.Contains(err.Error(), "URLs[0]") || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "zzret") {
			t.Errorf("%q blames a good URL, or tells a password", err)
		}
	}
}

// Users, passwords and virtual hosts may have any characters; none of the first two is in an error.
func TestAwkwardNames(t *testing.T) {
	address := servers.RabbitMQ(t)
	const name, password, vhost = "awk/ward@user", "p@ss:w/o rd%?#", "sh/op"
	servers.RabbitMQControl(t, "add_vhost", vhost)
	t.Cleanup(func() { servers.RabbitMQControl(t, "delete_vhost", vhost) })
	as := user(t, address, name, password, "-p", vhost, "", ".*", "")
	servers.RabbitMQControl(t, "set_permissions", "-p", vhost, "lockstep", ".*", ".*", ".*")
	to := newTopology(t, address+url.PathEscape(vhost), queue{kind: "classic"})
	if err := publish(t, open(t, amqp.Config{URLs: []string{as + url.PathEscape(vhost)}}), numbered(to.exchange, 1))[0]; err != nil {
		t.Error(err)
	}
	u, err := url.Parse(address)
	must(t, err)
	for what, wrong := range map[string]string{
		"password":     (&url.URL{Scheme: "amqp", User: url.UserPassword(name, "wrong"), Host: u.Host, RawPath: "/sh%2Fop", Path: "/sh/op"}).String(),
		"virtual host": as + "nowhere",
		"host":         "amqp://u:" + url.QueryEscape("wrong") + "@127.0.0.1:1/",
	} {
		err := publish(t, open(t, amqp.Config{URLs: []string{wrong}}), numbered(to.exchange, 1))[0]
		expectClass(t, "a wrong "+what, err, core.ErrUnavailable)
		if err != nil && (strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), password)) {
			t.Errorf("the error tells the password: %v", err)
		}
	}
}

// TestTLS: RabbitMQ behind a proxy that ends TLS, as load balancers do. Its certificate is checked by default.
func TestTLS(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	u, err := url.Parse(address)
	must(t, err)
	certificate, roots, file := selfSigned(t)
	u.Host = servers.EndTLS(t, u.Host, certificate)
	u.Scheme = "amqps"
	for _, tt := range []struct {
		name   string
		config amqp.Config
		class  error
	}{
		{"unknown authority", amqp.Config{URLs: []string{u.String()}}, core.ErrUnavailable},
		{"known authority", amqp.Config{URLs: []string{u.String()}, TLS: &tls.Config{RootCAs: roots}}, nil},
		{"authority in the URL", amqp.Config{URLs: []string{u.String() + "?cacertfile=" + url.QueryEscape(file)}}, nil},
		{"another name", amqp.Config{URLs: []string{u.String()}, TLS: &tls.Config{RootCAs: roots, ServerName: "another"}}, core.ErrUnavailable},
		{"no such file", amqp.Config{URLs: []string{u.String() + "?cacertfile=/nowhere"}}, core.ErrUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := publish(t, open(t, tt.config), numbered(to.exchange, 1))[0]
			expectClass(t, "publish", err, tt.class)
			if tt.config.TLS != nil && tt.name == "known authority" && tt.config.TLS.ServerName != "" {
				t.Error("the caller's tls.Config was changed")
			}
		})
	}
}

// selfSigned returns a certificate for 127.0.0.1, a pool with it, and a file with it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	parsed, err := x509.ParseCertificate(der)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	file := filepath.Join(t.TempDir(), "ca.pem")
	must(t, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots, file
}

func TestOpenDoesNotConnect(t *testing.T) {
	b, err := amqp.Open(amqp.Config{URLs: []string{"amqp://u:p@127.0.0.1:1/"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), nil); err != nil {
		t.Errorf("publish nothing: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Errorf("close it again: %v", err)
	}
}
