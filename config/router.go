package config

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/lockstep-go/lockstep/core"
)

// place is a broker behind routes. Its address tells it from others: adapters may return values that cannot be compared.
type place struct{ broker core.Broker }

// route sends the topics that match a pattern to a broker.
type route struct {
	topics string
	to     *place
}

// router is a broker that sends each message to the broker its topic is routed to. Several get their parts of a call at
// the same time.
type router struct {
	routes []route
	rest   *place
}

// newRouter returns a broker with the abilities that all brokers behind it have, or, for terms and pings, any.
func newRouter(routes []route, rest *place) core.Broker {
	if len(routes) == 0 {
		return rest.broker
	}
	r := &router{routes, rest}
	for _, p := range r.places() {
		if _, ordered := core.Ability[core.KeyOrdered](p.broker); !ordered {
			return r
		}
	}
	return orderedRouter{r}
}

type orderedRouter struct{ *router }

// KeyOrdered implements [core.KeyOrdered]: a topic, and with it each of its keys, is routed to one broker.
func (orderedRouter) KeyOrdered() {}

// places returns each place once.
func (r *router) places() []*place {
	places := []*place{r.rest}
	for _, route := range r.routes {
		if !slices.Contains(places, route.to) {
			places = append(places, route.to)
		}
	}
	return places
}

func (r *router) to(topic string) *place {
	for _, route := range r.routes {
		if matches(route.topics, topic) {
			return route.to
		}
	}
	return r.rest
}

// Publish implements [core.Broker].
func (r *router) Publish(ctx context.Context, msgs []core.Message) error {
	parts := map[*place][]int{}
	for i := range msgs {
		to := r.to(msgs[i].Topic)
		parts[to] = append(parts[to], i)
	}
	if len(parts) == 1 {
		return r.to(msgs[0].Topic).broker.Publish(ctx, msgs)
	}
	results := make([]error, len(msgs))
	var waiting sync.WaitGroup
	for to, indexes := range parts {
		waiting.Go(func() { publishPart(ctx, to.broker, msgs, indexes, results) })
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
