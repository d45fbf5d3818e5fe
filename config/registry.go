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
	// Brokers are those behind Broker, by the name or the URL that the configuration gives them, without secrets. Where URLs differ
	// in these alone, the second one has " (2)" behind it.
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

// Load is the function [Load]. Where something is wrong, the adapters look at the URLs as well, so that all of it is said at
// once; nothing stays open.
func (r *Registry) Load(source Source) (Config, error) {
	config, err := Load(source)
	var wrong *Error
	if !errors.As(err, &wrong) {
		return config, err
	}
	opening := r.opening(&config, slog.New(slog.DiscardHandler))
	opening.all(!source.NoBroker)
	c := &opening.problems
	c.found = slices.DeleteFunc(c.found, func(p Problem) bool {
		return slices.ContainsFunc(wrong.Problems, func(known Problem) bool { return known.Field == p.Field })
	})
	c.found = append(slices.Clone(wrong.Problems), c.found...)
	return config, errors.Join(c.err(), opening.opened.Close())
}

// Open opens everything that config's outboxes name; nothing is connected yet. A broker that several outboxes use by name is one.
// The error is an *[Error] with every URL that no adapter takes.
func (r *Registry) Open(config Config, log *slog.Logger) (*Opened, error) {
	return r.opening(&config, log).result(true)
}

// OpenDatabases is Open without the brokers.
func (r *Registry) OpenDatabases(config Config) (*Opened, error) {
	return r.opening(&config, nil).result(false)
}

// opening is an Open call.
type opening struct {
	registry *Registry
	config   *Config
	log      *slog.Logger
	named    map[string]*place
	opened   *Opened
	problems collector
}

func (r *Registry) opening(config *Config, log *slog.Logger) *opening {
	o := &opening{registry: r, config: config, log: log, named: map[string]*place{}, opened: &Opened{}}
	if config.origin != nil {
		o.problems = collector{file: config.origin.file, lines: config.origin.lines}
	}
	return o
}

func (o *opening) result(brokers bool) (*Opened, error) {
	o.all(brokers)
	if err := o.problems.err(); err != nil {
		return nil, errors.Join(err, o.opened.Close())
	}
	return o.opened, nil
}

func (o *opening) all(brokers bool) {
	for i := range o.config.Outboxes {
		from, path := &o.config.Outboxes[i], o.config.outboxPath(i)
		to := Outbox{Name: from.Name, Database: from.Database, Dialect: o.dialect(from, path), Relay: from.relayConfig()}
		if brokers {
			o.route(from, &to, path)
		}
		o.opened.Outboxes = append(o.opened.Outboxes, to)
	}
	if brokers {
		o.unused()
	}
}

// unused looks at the URLs of brokers that no outbox uses, which are not opened: some day one of them will be.
func (o *opening) unused() {
	for _, name := range slices.Sorted(maps.Keys(o.config.Brokers)) {
		if _, used := o.named[name]; used {
			continue
		}
		if _, _, err := lookUp(o.config.Brokers[name], o.registry.brokers); err != nil {
			o.problems.add(join("brokers", name), "%v", err)
		}
	}
}

// route opens an outbox's brokers, and decides between them.
func (o *opening) route(from *OutboxConfig, to *Outbox, path string) {
	to.Brokers = map[string]core.Broker{}
	names, opened := namesOf(from), map[URL]*place{}
	open := func(where string, u URL) *place {
		if p := opened[u]; p != nil {
			return p
		}
		p := o.broker(where, u)
		if p.broker != nil {
			to.Brokers[names[u]], opened[u] = p.broker, p
		}
		return p
	}
	var routes []route
	for i, r := range from.Routes {
		routes = append(routes, route{r.Topics, open(fmt.Sprintf("%sroutes[%d].broker", path, i), r.Broker)})
	}
	to.routeOf = func(topic string) string {
		for _, r := range from.Routes {
			if matches(r.Topics, topic) {
				return names[r.Broker]
			}
		}
		return names[from.Broker]
	}
	to.Broker = newRouter(routes, open(path+"broker", from.Broker))
}

// namesOf names an outbox's brokers, without secrets, and so that each has a name of its own.
func namesOf(from *OutboxConfig) map[URL]string {
	names, taken := map[URL]string{}, map[string]bool{}
	name := func(u URL) {
		if _, named := names[u]; named {
			return
		}
		text := u.String()
		for n := 2; taken[text]; n++ {
			text = fmt.Sprintf("%s (%d)", u, n)
		}
		names[u], taken[text] = text, true
	}
	name(from.Broker)
	for _, r := range from.Routes {
		name(r.Broker)
	}
	return names
}

func (o *opening) dialect(from *OutboxConfig, path string) Dialect {
	dialect, err := o.registry.OpenDialect(from.Database, Options{Prefix: from.Prefix, Schema: from.Schema, Archive: from.Archive})
	if err != nil {
		o.problems.add(path+"database", "%v", err)
		return nil
	}
	o.opened.closers = append(o.opened.closers, dialect)
	return dialect
}

// broker opens u, or returns the one that was opened under its name.
func (o *opening) broker(where string, u URL) *place {
	if p, opened := o.named[u.text]; opened && u.isName() {
		return p
	}
	p := &place{}
	at := u
	if u.isName() {
		var known bool
		if at, known = o.config.Brokers[u.text]; !known {
			o.problems.add(where, noSuchBroker, u.text)
			return p
		}
		where = join("brokers", u.text)
	}
	broker, err := o.registry.OpenBroker(at, o.log)
	if err != nil {
		o.problems.add(where, "%v", err)
		return p
	}
	p.broker = broker
	if closer, ok := core.Ability[io.Closer](broker); ok {
		o.opened.closers = append(o.opened.closers, closer)
	}
	if _, tells := broker.(core.TermBroker); !tells {
		if inner, hidden := core.Ability[core.TermBroker](broker); hidden { // a relay sees only what stands before the routes
			o.problems.add(where, "%T hides that %T can shut out an earlier owner: let it implement ForTerm too", broker, inner)
		}
	}
	if u.isName() {
		o.named[u.text] = p
	}
	return p
}
