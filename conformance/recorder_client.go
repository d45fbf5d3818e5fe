package conformance

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-go/lockstep/core"
)

// ClientConfig sets which abilities a client of a [Recorder] has.
type ClientConfig struct {
	// KeyOrdered makes it a [core.KeyOrdered].
	KeyOrdered bool
	// Terms makes it a [core.TermBroker].
	Terms bool
	// FenceByPublish shuts an earlier term out of a topic when the later one first publishes there, as a log does
	// that learns of a producer by its first write.
	// Defaults to shutting it out of every topic by ForTerm.
	FenceByPublish bool
}

var (
	_ core.KeyOrdered = orderedClient{}
	_ core.TermBroker = termClient{}
	_ core.KeyOrdered = orderedTermClient{}
	_ core.TermBroker = orderedTermClient{}
)

// Client returns another way to the same broker, for a relay of its own: what calls may not do at the same time is
// watched for each client.
func (r *Recorder) Client(config ClientConfig) core.Broker {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.clients++
	return (&client{number: r.clients, config: config}).as(r)
}

// client is one relay's connection to a recorder.
type client struct {
	number  int
	config  ClientConfig
	term    core.Term
	running map[topicKey]running // the keys in calls that have not returned
}

// running is a call that holds a key.
type running struct {
	call int
	ctx  context.Context
}

// as returns the broker that has the client's abilities.
func (c *client) as(r *Recorder) core.Broker {
	base := recorderClient{c, r}
	switch {
	case c.config.KeyOrdered && c.config.Terms:
		return orderedTermClient{termClient{base}}
	case c.config.KeyOrdered:
		return orderedClient{base}
	case c.config.Terms:
		return termClient{base}
	}
	return base
}

type recorderClient struct {
	client   *client
	recorder *Recorder
}

func (c recorderClient) Publish(ctx context.Context, msgs []core.Message) error {
	return c.client.publish(ctx, c.recorder, msgs)
}

// another returns a client of the same kind, as another process has it.
func (c recorderClient) another() core.Broker { return c.recorder.Client(c.client.config) }

type orderedClient struct{ recorderClient }

func (orderedClient) KeyOrdered() {}

type termClient struct{ recorderClient }

type orderedTermClient struct{ termClient }

func (orderedTermClient) KeyOrdered() {}

// ForTerm shuts earlier epochs out, at once or topic by topic.
func (c termClient) ForTerm(ctx context.Context, term core.Term) (core.Broker, error) {
	r, config := c.recorder, c.client.config
	_, fault := r.begin(c.client, PublishCall{Term: term, ForTerm: true})
	if err := fault.pass(ctx, fault.Before); err != nil {
		return nil, err
	}
	if fault.Hang {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if fault.Err != nil {
		return nil, fault.Err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settle(time.Now())
	if r.terms[term] {
		r.misuse = append(r.misuse, fmt.Errorf("ForTerm was called twice for %+v", term))
	}
	if term.Epoch < r.fences[destination{outbox: term.Outbox}] {
		return nil, core.ErrFenced
	}
	if r.terms == nil {
		r.terms, r.fences = map[core.Term]bool{}, map[destination]int64{}
	}
	r.terms[term] = true
	if !config.FenceByPublish {
		r.fences[destination{outbox: term.Outbox}] = term.Epoch
	}
	return (&client{number: c.client.number, config: config, term: term}).as(r), nil
}

// begin numbers a call, watches its caller, and asks the fault function.
func (r *Recorder) begin(c *client, call PublishCall) (int, PublishFault) {
	r.mu.Lock()
	r.calls++
	call.Call, call.Client = r.calls, c.number
	r.mu.Unlock()
	r.injecting.Lock()
	defer r.injecting.Unlock()
	if r.inject == nil {
		return call.Call, PublishFault{}
	}
	return call.Call, r.inject(call)
}
