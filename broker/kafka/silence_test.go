package kafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/lockstep-go/lockstep/conformance"
	"github.com/lockstep-go/lockstep/internal/brokertest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

func TestDeliveryGoesOnAfterASilence(t *testing.T) {
	t.Parallel()
	f := newFake(t, 4, kfake.NumBrokers(1))
	proxy := servers.Proxy(t, f.ListenAddrs()[0], conformance.ProxyConfig{})
	brokertest.DeliversAfterASilence(t, openThrough(t, proxy), proxy, f.topic, 3*longEnough)
}
