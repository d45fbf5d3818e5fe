package servers

import (
	"crypto/tls"
	"io"
	"net"
	"sync"
)

// EndTLS returns the address of a proxy that decrypts what comes, by this certificate, and forwards it to server, as load balancers do.
// It ends with the test.
func EndTLS(t TB, server string, certificate tls.Certificate) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatalf("end TLS before %s: %v", server, err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { forward(client, server) })
		}
	})
	return listener.Addr().String()
}

// forward copies both ways until either end is closed.
func forward(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	var both sync.WaitGroup
	for _, c := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			_, _ = io.Copy(c[0], c[1])
			c[0].Close()
		})
	}
	both.Wait()
}
