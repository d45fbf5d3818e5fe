package config

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-go/lockstep/core"
)

// Dialect is a [core.Dialect] as a program needs it: with the tools that make and check its tables.
type Dialect interface {
	core.Dialect
	// Migrate creates or updates the tables. Concurrent callers are safe.
	Migrate(ctx context.Context) error
	// Check returns nil where an outbox is there and can be worked on, and otherwise says what is missing.
	Check(ctx context.Context) error
	// Schema returns the statements that Migrate runs on an empty database.
	Schema() string
	// Grants returns the statements that give an application's role and a relay's role what they need.
	Grants(application, relay string) string
	// Close releases what the dialect holds.
	Close() error
}

// Options are what an outbox's settings say beside its URL. An adapter refuses those that mean nothing to it.
type Options struct {
	Prefix, Schema string
	Archive        []string
}

// OpenDialect returns the dialect for the database that u names. It does not connect, so that a database may be away when
// a program starts. It refuses parameters of u that it does not know. Its errors hold no secret of u.
type OpenDialect func(u *url.URL, options Options) (Dialect, error)

// OpenBroker returns the broker that u names. It does not connect. It refuses parameters of u that it does not know. Its
// errors hold no secret of u. A broker that is an io.Closer is closed when the program ends.
type OpenBroker func(u *url.URL, log *slog.Logger) (core.Broker, error)

// Registry maps the schemes of URLs to adapters. It is a value of the program's own: nothing registers itself. Not safe
// for concurrent use while adapters are added.
type Registry struct {
	dialects map[string]OpenDialect
	brokers  map[string]OpenBroker
}

// NewRegistry returns an empty registry.
func NewRegistry() *Registry {
	return &Registry{dialects: map[string]OpenDialect{}, brokers: map[string]OpenBroker{}}
}

// Dialect makes open the adapter for databases with these schemes. A later one replaces an earlier one.
func (r *Registry) Dialect(open OpenDialect, schemes ...string) {
	for _, scheme := range schemes {
		r.dialects[scheme] = open
	}
}

// Broker makes open the adapter for brokers with these schemes. A later one replaces an earlier one.
func (r *Registry) Broker(open OpenBroker, schemes ...string) {
	for _, scheme := range schemes {
		r.brokers[scheme] = open
	}
}

// OpenDialect opens the database that u names.
func (r *Registry) OpenDialect(u URL, options Options) (Dialect, error) {
	parsed, open, err := lookUp(u, r.dialects)
	if err != nil {
		return nil, err
	}
	return open(parsed, options)
}

// OpenBroker opens the broker that u names.
func (r *Registry) OpenBroker(u URL, log *slog.Logger) (core.Broker, error) {
	parsed, open, err := lookUp(u, r.brokers)
	if err != nil {
		return nil, err
	}
	return open(parsed, log)
}

func lookUp[Open any](u URL, adapters map[string]Open) (parsed *url.URL, open Open, err error) {
	if parsed, err = u.Parse(); err != nil {
		return nil, open, err
	}
	open, known := adapters[parsed.Scheme]
	if !known {
		schemes := slices.Sorted(maps.Keys(adapters))
		return nil, open, fmt.Errorf("has the scheme %s, which no adapter here has: there are %s", parsed.Scheme, strings.Join(schemes, ", "))
	}
	return parsed, open, nil
}

// Outbox is an outbox that was opened, with all that its relay needs.
type Outbox struct {
	Name    string
	Dialect Dialect
	// Database is where Dialect is.
	Database URL
	// Broker sends each message to the broker that its topic is routed to.
	Broker core.Broker
	// Brokers are those behind Broker, by the name or the URL that the configuration gives them, without secrets.
	Brokers map[string]core.Broker
	// Relay has the configuration's settings. Waker, Hooks and Logger are the program's to set.
	Relay core.RelayConfig

	routeOf func(topic string) string
}

// RouteOf returns the name, in Brokers, of the broker that a topic is routed to.
func (o *Outbox) RouteOf(topic string) string { return o.routeOf(topic) }

// Opened is a configuration's outboxes. Close it after the relays ended.
type Opened struct {
	Outboxes []Outbox
	closers  []io.Closer
}

// Close closes all dialects and brokers.
func (o *Opened) Close() error {
	var errs []error
	for _, c := range slices.Backward(o.closers) {
		errs = append(errs, c.Close())
	}
	o.closers = nil
	return errors.Join(errs...)
}

// Open opens everything that config names; nothing is connected yet. A broker that several outboxes use by name is one.
// The error is an *[Error] with every URL that no adapter takes.
func (r *Registry) Open(config Config, log *slog.Logger) (*Opened, error) {
	opening := &opening{registry: r, config: &config, log: log, named: map[string]core.Broker{}, opened: &Opened{}}
	for i := range config.Outboxes {
		opening.outbox(&config.Outboxes[i])
	}
	if err := opening.problems.err(); err != nil {
		return nil, errors.Join(err, opening.opened.Close())
	}
	return opening.opened, nil
}

// OpenDatabases is Open without the brokers.
func (r *Registry) OpenDatabases(config Config) (*Opened, error) {
	opening := &opening{registry: r, config: &config, opened: &Opened{}}
	for i := range config.Outboxes {
		from := &config.Outboxes[i]
		opening.opened.Outboxes = append(opening.opened.Outboxes, Outbox{Name: from.Name, Database: from.Database, Dialect: opening.dialect(from), Relay: from.relayConfig()})
	}
	if err := opening.problems.err(); err != nil {
		return nil, errors.Join(err, opening.opened.Close())
	}
	return opening.opened, nil
}

// opening is an Open call.
type opening struct {
	registry *Registry
	config   *Config
	log      *slog.Logger
	named    map[string]core.Broker
	opened   *Opened
	problems collector
}

func (o *opening) outbox(from *OutboxConfig) {
	to := Outbox{Name: from.Name, Database: from.Database, Brokers: map[string]core.Broker{}, Relay: from.relayConfig()}
	where := "outbox " + from.Name + ": "
	to.Dialect = o.dialect(from)
	var routes []route
	for i, r := range from.Routes {
		routes = append(routes, route{r.Topics, o.broker(&to, fmt.Sprintf("%sroutes[%d].broker", where, i), r.Broker)})
	}
	to.routeOf = func(topic string) string {
		for _, r := range from.Routes {
			if matches(r.Topics, topic) {
				return r.Broker.String()
			}
		}
		return from.Broker.String()
	}
	to.Broker = newRouter(routes, o.broker(&to, where+"broker", from.Broker))
	o.opened.Outboxes = append(o.opened.Outboxes, to)
}

func (o *opening) dialect(from *OutboxConfig) Dialect {
	dialect, err := o.registry.OpenDialect(from.Database, Options{Prefix: from.Prefix, Schema: from.Schema, Archive: from.Archive})
	if err != nil {
		o.problems.at(0, "outbox "+from.Name+": database", "%v", err)
		return nil
	}
	o.opened.closers = append(o.opened.closers, dialect)
	return dialect
}

// broker opens u, or returns the one that was opened under its name.
func (o *opening) broker(to *Outbox, where string, u URL) core.Broker {
	name := u.String()
	if broker, opened := o.named[name]; opened && u.isName() {
		to.Brokers[name] = broker
		return broker
	}
	at := u
	if u.isName() {
		at = o.config.Brokers[u.text]
	}
	broker, err := o.registry.OpenBroker(at, o.log)
	if err != nil {
		o.problems.at(0, where, "%v", err)
		return nil
	}
	if closer, ok := core.Ability[io.Closer](broker); ok {
		o.opened.closers = append(o.opened.closers, closer)
	}
	if _, tells := broker.(core.TermBroker); !tells {
		if inner, hidden := core.Ability[core.TermBroker](broker); hidden { // a relay sees only what stands before the routes
			o.problems.at(0, where, "%T hides that %T can shut out an earlier owner: let it implement ForTerm too", broker, inner)
		}
	}
	if u.isName() {
		o.named[name] = broker
	}
	to.Brokers[name] = broker
	return broker
}
