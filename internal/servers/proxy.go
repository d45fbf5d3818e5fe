package servers

import "github.com/lockstep-go/lockstep/conformance"

// Proxy returns a proxy before the server at address, which ends with the test.
func Proxy(t TB, address string, config conformance.ProxyConfig) *conformance.Proxy {
	t.Helper()
	p, err := conformance.NewProxy(address, config)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}
