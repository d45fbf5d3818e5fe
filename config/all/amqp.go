package all

import (
	"log/slog"
	"net/url"

	"github.com/lockstep-go/lockstep/broker/amqp"
	"github.com/lockstep-go/lockstep/core"
)

// clientParameters are those that amqp091-go reads from a URL. It passes over what it does not know.
var clientParameters = []string{
	"heartbeat", "connection_timeout", "channel_max", "auth_mechanism", "cacertfile", "certfile", "keyfile", "server_name_indication",
}

// amqpBroker is the adapter, what doctor asks, and what verify makes beside it.
type amqpBroker struct {
	*amqp.Broker
	besideAMQP
}

type pipelinedAMQPBroker struct {
	*amqp.Pipelined
	besideAMQP
}

func openAMQP(u *url.URL, _ *slog.Logger) (core.Broker, error) {
	p := parametersOf(u)
	source, pipelined := p.take("cloudevents_source"), p.take("pipelined", "true", "false")
	nodes, err := amqpNodes(u, u.Scheme, p)
	if err != nil {
		return nil, err
	}
	c := amqp.Config{URLs: nodes, CloudEventsSource: source}
	b, err := amqp.Open(c)
	if err != nil {
		return nil, err
	}
	if pipelined == "true" {
		return pipelinedAMQPBroker{b.Pipelined(), besideAMQP{c, true}}, nil
	}
	return amqpBroker{b, besideAMQP{c, false}}, nil
}

// amqpNodes returns a URL for each host, with the parameters that are the client's.
func amqpNodes(u *url.URL, scheme string, p *parameters) ([]string, error) {
	own := url.Values{}
	for _, name := range clientParameters {
		if value := p.take(name); value != "" {
			own.Set(name, value)
		}
	}
	if err := p.err(); err != nil {
		return nil, err
	}
	port := "5672"
	if scheme == "amqps" {
		port = "5671"
	}
	all, err := hosts(u, port)
	if err != nil {
		return nil, err
	}
	for i, host := range all {
		node := *u
		node.Scheme, node.Host, node.RawQuery = scheme, host, own.Encode()
		all[i] = node.String()
	}
	return all, nil
}
