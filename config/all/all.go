// Package all is the registry with every adapter of ours.
//
//	postgres://user:password@host:port/database     postgresql:// too; parameters are lib/pq's, and listen_host=host:port
//	                                                where LISTEN goes, when the host is a pooler
//	mysql://user:password@host:port/database        mariadb:// too; parameters are go-sql-driver/mysql's
//	sqlite:shop.db, sqlite:/var/lib/shop/shop.db    no parameters
//
//	kafka://k1:9092,k2:9092                         parameters: client_id, compression (gzip, snappy, lz4, zstd),
//	                                                cloudevents_source, sasl (scram-sha-256, scram-sha-512)
//	kafka+tls://user:password@k1:9093?sasl=plain    also sasl=plain, and files in PEM: ca_file, cert_file, key_file
//	amqp://user:password@r1,r2:5672/vhost           amqps:// too; parameters are amqp091-go's, cloudevents_source, and
//	                                                pipelined=true (amqp.Broker.Pipelined)
//	watermill+kafka://k1:9092                       through watermill-kafka: for who uses Watermill elsewhere; no parameters
//	stdout:                                         a line of JSON for each message
//	file:events.jsonl, file:/var/log/events.jsonl   the same, synced to the disk
package all

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/lockstep-go/lockstep/config"
)

// Registry returns a new registry with all of ours, to which others can be added.
func Registry() *config.Registry {
	r := config.NewRegistry()
	r.Dialect(openPostgres, "postgres", "postgresql")
	r.Dialect(openMySQL, "mysql", "mariadb")
	r.Dialect(openSQLite, "sqlite")
	r.Broker(openKafka, "kafka", "kafka+tls")
	r.Broker(openAMQP, "amqp", "amqps")
	r.Broker(openWatermillKafka, "watermill+kafka")
	r.Broker(openStdout, "stdout")
	r.Broker(openFile, "file")
	return r
}

// parameters are those of a URL's query, of which each has to be taken.
type parameters struct {
	values url.Values
	known  []string
	faults []error
}

func parametersOf(u *url.URL) *parameters {
	values, err := url.ParseQuery(u.RawQuery)
	p := &parameters{values: values}
	if err != nil {
		p.faults = append(p.faults, errors.New("has parameters that cannot be read: percent-encode special characters"))
	}
	return p
}

// take returns a parameter's value, which is empty where it is not set, and one of allowed where there are any.
func (p *parameters) take(name string, allowed ...string) string {
	p.known = append(p.known, name)
	values := p.values[name]
	delete(p.values, name)
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1 || values[0] == "":
		p.faults = append(p.faults, fmt.Errorf("needs one value for the parameter %s", name))
	case len(allowed) > 0 && !slices.Contains(allowed, values[0]):
		p.faults = append(p.faults, fmt.Errorf("has a parameter %s that is none of %s", name, strings.Join(allowed, ", ")))
	}
	return values[0]
}

// err reports what was wrong with those that were taken, and all that were not.
func (p *parameters) err() error {
	for _, name := range slices.Sorted(maps.Keys(p.values)) {
		there := "there are none"
		if len(p.known) > 0 {
			there = "there are " + strings.Join(p.known, ", ")
		}
		p.faults = append(p.faults, fmt.Errorf("has an unknown parameter %s: %s", name, there))
	}
	return errors.Join(p.faults...)
}

// hosts returns the hosts of u, each with a port.
func hosts(u *url.URL, port string) ([]string, error) {
	var all []string
	for _, host := range strings.Split(u.Host, ",") {
		one := url.URL{Host: host}
		switch {
		case one.Hostname() == "":
			return nil, fmt.Errorf("has no host, or an empty one among several: write %s://host1,host2", u.Scheme)
		case one.Port() == "":
			host = strings.TrimSuffix(host, ":") + ":" + port
		}
		all = append(all, host)
	}
	return all, nil
}

// path returns the path of a file that u names: scheme:relative/path, scheme:/absolute or scheme:///absolute.
func path(u *url.URL) (string, error) {
	at := u.Path
	if u.Opaque != "" {
		var err error
		if at, err = url.PathUnescape(u.Opaque); err != nil {
			return "", errors.New("has a path that cannot be read: write %25 for %")
		}
	}
	if u.Host != "" || u.User != nil || u.Fragment != "" || at == "" {
		return "", fmt.Errorf("does not name a file: write %s:relative/path or %[1]s:/absolute/path, with %%23 for #", u.Scheme)
	}
	return at, parametersOf(u).err()
}
