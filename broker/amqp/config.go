package amqp

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/lockstep-go/lockstep/internal/cloudevents"
)

// Config says how to reach RabbitMQ, and what messages look like there.
type Config struct {
	// URLs name the nodes of one cluster, which are tried in turn: amqp://user:password@host:port/vhost, or amqps:// for
	// TLS. Whatever is special in a URL is percent-encoded in the user, the password and the virtual host (%2F for a
	// slash). The parameters heartbeat (seconds; 10 by default), connection_timeout (milliseconds), cacertfile,
	// certfile, keyfile, server_name_indication and auth_mechanism are understood. Required.
	URLs []string
	// TLS is used for amqps URLs, in place of what their parameters say. Defaults to the system's certificate
	// authorities and the host's name.
	TLS *tls.Config
	// Transient makes a restart of the broker lose the messages in classic queues. Defaults to false: they are
	// persistent, and confirmed when they are on disk.
	Transient bool
	// CloudEventsSource is the source attribute of the CloudEvents as which messages are sent, a URI reference such as
	// /shop/orders. Defaults to none: messages carry native headers.
	CloudEventsSource string
}

// connectTimeout bounds one try to connect to one node, up to the open channel, unless its URL says otherwise.
const connectTimeout = 5 * time.Second

// Validate reports every field that is out of range. What it says never holds a password.
func (c Config) Validate() error {
	var faults []error
	if len(c.URLs) == 0 {
		faults = append(faults, errors.New("URLs is empty: name at least one amqp://user:password@host:port/vhost"))
	}
	for i, u := range c.URLs {
		if _, err := parseNode(u); err != nil {
			faults = append(faults, fmt.Errorf("URLs[%d] %w", i, err))
		}
	}
	if c.CloudEventsSource != "" {
		if err := cloudevents.ValidateSource(c.CloudEventsSource); err != nil {
			faults = append(faults, fmt.Errorf("CloudEventsSource %w", err))
		}
	}
	return errors.Join(faults...)
}

// node is one member of the cluster.
type node struct {
	url     string // holds the password: never printed
	place   string // what an error may say
	timeout time.Duration
}

// parseNode leaves out the causes of parse errors: they quote what they could not parse, password included.
func parseNode(text string) (node, error) {
	const want = "want amqp://user:password@host:port/vhost or amqps://…, each part percent-encoded"
	u, err := url.Parse(text)
	if err != nil {
		return node{}, errors.New("cannot be parsed: " + want)
	}
	if u.Scheme != "amqp" && u.Scheme != "amqps" || u.Hostname() == "" {
		return node{}, errors.New("is not the URL of a RabbitMQ node: " + want)
	}
	uri, err := amqp091.ParseURI(text)
	if err != nil || u.Opaque != "" {
		return node{}, errors.New("has a port or a parameter that is out of range: " + want)
	}
	for _, mechanism := range uri.AuthMechanism {
		switch strings.ToUpper(mechanism) {
		case "PLAIN", "AMQPLAIN", "EXTERNAL":
		default:
			return node{}, errors.New("has an unknown auth_mechanism: want plain, amqplain or external")
		}
	}
	n := node{url: text, place: fmt.Sprintf("%s:%d, virtual host %q", uri.Host, uri.Port, uri.Vhost), timeout: connectTimeout}
	if uri.ConnectionTimeout > 0 {
		n.timeout = time.Duration(uri.ConnectionTimeout) * time.Millisecond
	}
	return n, nil
}
