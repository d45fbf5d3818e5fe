// Package config is the configuration of the relay as a program: where the outboxes are, which brokers their events go
// to, and how relays work, from a YAML file, the environment and flags. It knows no adapter. A [Registry] maps the schemes
// of URLs to adapters, so that a program links just those that it registers, and anybody's adapter gets a scheme without
// a change here; package all has a registry of ours.
//
// # The file
//
// It is one YAML document: settings behind a further line --- are refused. Two lines are a configuration; changing the broker
// is changing one of them:
//
//	database: postgres://relay@db/shop
//	broker: kafka://k1:9092,k2:9092
//
// Everything else has a default, which is that of the Go API (core.RelayConfig, core.FailurePolicy). The rest of what one
// outbox can have:
//
//	prefix: shop_                 # before the name of each table
//	schema: events                # where the database has schemas
//	archive: [orders, audit.*]    # topics whose delivered events are kept; "*" is all
//	relay:
//	  lanes: 8
//	  batch_size: 500
//	  batch_bytes: 1048576
//	  in_flight: 10000
//	  in_flight_bytes: 16777216
//	  poll_interval: 100ms
//	  publish_timeout: 30s
//	  drain_timeout: 30s
//	  lease_ttl: 5s
//	failures:
//	  max_attempts: 10
//	  first_delay: 1s
//	  max_delay: 5m
//	  skip_dead: false
//	topics:                       # failures, by topic
//	  audit: {skip_dead: true}
//	routes:                       # other brokers for some topics: the first pattern that matches decides
//	  - {topics: audit.*, broker: audit}
//
// and of the program:
//
//	listen: 127.0.0.1:9464        # health, readiness and metrics; "off" for none
//	max_pending_age: 5m           # not ready where the oldest pending event is older
//	log: {level: info, format: text}
//	brokers:                      # brokers by name
//	  audit: amqps://audit@rabbit/
//
// Several outboxes are a list, each with a name, in the place of the top level's own:
//
//	outboxes:
//	  - {name: shop, database: "postgres://relay@db/shop", broker: events}
//	  - {name: bank, database: "mysql://relay@db2/bank", broker: events}
//	brokers:
//	  events: kafka://k1:9092
//
// # Secrets
//
// ${NAME} in a value is replaced by the environment variable NAME, ${file:/run/secrets/x} by that file's content without
// its last line break. $${ is a plain ${. In a URL, percent-encode what a URL cannot hold, or write
// ${url:NAME} and ${urlfile:/run/secrets/x}, which encode it. URLs are printed without passwords.
//
// # Precedence
//
// Flags win over the environment (LOCKSTEP_DATABASE, LOCKSTEP_BROKER, LOCKSTEP_PREFIX, LOCKSTEP_SCHEMA, LOCKSTEP_LISTEN,
// LOCKSTEP_LOG_LEVEL, LOCKSTEP_LOG_FORMAT), which wins over the file. They set the top level's outbox, and are refused
// where the file has a list of outboxes.
package config
