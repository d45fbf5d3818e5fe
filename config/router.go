package config

import (
	"context"
	"fmt"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

// route sends the topics that match a pattern to a broker.
type route struct {
	topics string
	broker core.Broker
}

// router is a broker that sends each message to the broker its topic is routed to. Several get their parts of a call at
// the same time.
type router struct {
	routes []route
	rest   core.Broker
}

// newRouter returns a broker with the abilities that all brokers behind it have, or, for terms and pings, any.
func newRouter(routes []route, rest core.Broker) core.Broker {
	if len(routes) == 0 {
		return rest
	}
	r := &router{routes, rest}
	for _, broker := range r.brokers() {
		if _, ordered := core.Ability[core.KeyOrdered](broker); !ordered {
			return r
		}
	}
	return orderedRouter{r}
}

type orderedRouter struct{ *router }

// KeyOrdered implements [core.KeyOrdered]: a topic, and with it each of its keys, is routed to one broker.
func (orderedRouter) KeyOrdered() {}

func (r *router) brokers() []core.Broker {
	brokers := []core.Broker{r.rest}
	for _, route := range r.routes {
		brokers = append(brokers, route.broker)
	}
	return brokers
}

func (r *router) to(topic string) core.Broker {
	for _, route := range r.routes {
		if matches(route.topics, topic) {
			return route.broker
		}
	}
	return r.rest
}

// Publish implements [core.Broker].
func (r *router) Publish(ctx context.Context, msgs []core.Message) error {
	parts := map[core.Broker][]int{}
	for i := range msgs {
		broker := r.to(msgs[i].Topic)
		parts[broker] = append(parts[broker], i)
	}
	if len(parts) == 1 {
		return r.to(msgs[0].Topic).Publish(ctx, msgs)
	}
	results := make([]error, len(msgs))
	var waiting sync.WaitGroup
	for broker, indexes := range parts {
		waiting.Go(func() { publishPart(ctx, broker, msgs, indexes, results) })
	}
	waiting.Wait()
	for _, err := range results {
		if err != nil {
			return &core.BatchError{Results: results}
		}
	}
	return nil
}

// publishPart sends the messages at indexes, and notes what became of them. A panic is the part's, not the call's.
func publishPart(ctx context.Context, broker core.Broker, msgs []core.Message, indexes []int, results []error) {
	part := make([]core.Message, len(indexes))
	for k, i := range indexes {
		part[k] = msgs[i]
	}
	err := func() (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("%w: %T panicked: %v", core.ErrUncertain, broker, p)
			}
		}()
		return broker.Publish(ctx, part)
	}()
	for k, result := range core.Results(err, len(part)) {
		results[indexes[k]] = result
	}
}

// ForTerm implements [core.TermBroker] for those that can shut out earlier owners. The others need no term.
func (r *router) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	begun := map[core.Broker]core.Broker{}
	begin := func(broker core.Broker) (core.Broker, error) {
		if done, ok := begun[broker]; ok {
			return done, nil
		}
		done := broker
		if fencer, ok := broker.(core.TermBroker); ok {
			var err error
			if done, err = fencer.ForTerm(ctx, term); err != nil {
				return nil, err
			}
		}
		begun[broker] = done
		return done, nil
	}
	rest, err := begin(r.rest)
	if err != nil {
		return nil, err
	}
	routes := make([]route, len(r.routes))
	for i, from := range r.routes {
		broker, err := begin(from.broker)
		if err != nil {
			return nil, err
		}
		routes[i] = route{from.topics, broker}
	}
	return newRouter(routes, rest), nil
}
