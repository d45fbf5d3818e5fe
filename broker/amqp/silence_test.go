package amqp_test

import (
	"testing"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/internal/brokertest"
	"github.com/lockstep-go/lockstep/internal/servers"
)

// There is no heartbeat that would end it soon.
func TestDeliveryGoesOnAfterASilence(t *testing.T) {
	t.Parallel()
	address := servers.RabbitMQ(t)
	to := newTopology(t, address, queue{kind: "classic"})
	proxy, through := throughProxy(t, address)
	broker := open(t, amqp.Config{URLs: []string{through + "?heartbeat=3600"}})
	brokertest.DeliversAfterASilence(t, broker, proxy, to.exchange, 3*longEnough)
}
