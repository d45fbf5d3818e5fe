package config

import (
	"fmt"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"
)

// normalise makes the short form a list of one outbox, sets the program's defaults, and notes what contradicts itself.
func (config *Config) normalise(c *collector, noBroker bool) {
	if _, list := c.lines["outboxes"]; list {
		for name := range fields(reflect.TypeFor[OutboxConfig]()) {
			if _, set := c.lines[name]; set {
				c.add(name, "stands beside outboxes: move it into the outbox that it is for")
			}
		}
		config.checkList(c, noBroker)
	} else {
		config.Outboxes = []OutboxConfig{config.OutboxConfig}
		o := &config.Outboxes[0]
		if o.Name == "" {
			o.Name = "default"
		}
		config.checkOutbox(c, "", o, noBroker)
	}
	config.OutboxConfig = OutboxConfig{}
	config.checkProgram(c)
}

// checkList checks the outboxes of the long form.
func (config *Config) checkList(c *collector, noBroker bool) {
	if len(config.Outboxes) == 0 {
		c.add("outboxes", "is empty: a relay needs an outbox")
	}
	names := map[string]bool{}
	for i := range config.Outboxes {
		o, path := &config.Outboxes[i], fmt.Sprintf("outboxes[%d]", i)
		switch {
		case o.Name == "":
			c.add(path+".name", "is missing: name each outbox, for logs and metrics")
		case names[o.Name]:
			c.add(path+".name", "is %q again: each outbox needs a name of its own", o.Name)
		}
		names[o.Name] = true
		config.checkOutbox(c, path+".", o, noBroker)
		for k := range i {
			other := &config.Outboxes[k]
			if !o.Database.IsZero() && other.Database == o.Database && other.Prefix == o.Prefix && other.Schema == o.Schema {
				c.add(path+".database", "is the outbox of outboxes[%d] again: two relays of one process would take turns", k)
			}
		}
	}
}

// checkOutbox checks one outbox. path is what its settings' paths begin with.
func (config *Config) checkOutbox(c *collector, path string, o *OutboxConfig, noBroker bool) {
	if o.Database.IsZero() {
		c.add(path+"database", "is missing: say where the outbox is, as in postgres://user@host/database or sqlite:shop.db")
	} else if _, err := o.Database.Parse(); err != nil {
		c.add(path+"database", "%v", err)
	}
	if !noBroker || !o.Broker.IsZero() {
		config.checkBroker(c, path+"broker", o.Broker)
	}
	for i, route := range o.Routes {
		at := fmt.Sprintf("%sroutes[%d]", path, i)
		if route.Topics == "" {
			c.add(at+".topics", "is missing: name a topic, or a pattern such as audit.*")
		}
		config.checkBroker(c, at+".broker", route.Broker)
		for k := range i {
			if matches(o.Routes[k].Topics, route.Topics) {
				c.add(at, "is never reached: routes[%d] takes every topic that matches %q", k, route.Topics)
				break
			}
		}
	}
	if err := o.relayConfig().Validate(); err != nil {
		for _, problem := range strings.Split(err.Error(), "\n") {
			field, text, _ := strings.Cut(problem, " ")
			c.add(path+settingOf(field), "%s", text)
		}
	}
}

// settingOf returns the path of core.RelayConfig's field in an outbox: Failures.MaxAttempts is failures.max_attempts.
func settingOf(field string) string {
	snake := camel.ReplaceAllString(field, "${1}_${2}")
	snake = strings.ToLower(quotedTopic.ReplaceAllString(snake, ".$1"))
	if !strings.Contains(snake, ".") {
		snake = "relay." + snake
	}
	return snake
}

var (
	camel       = regexp.MustCompile(`([a-z])([A-Z])`)
	quotedTopic = regexp.MustCompile(`\["(.*)"\]`)
)

const noSuchBroker = "is %q, which is neither a URL nor one of brokers"

// checkBroker checks a reference to a broker.
func (config *Config) checkBroker(c *collector, path string, broker URL) {
	switch {
	case broker.IsZero():
		c.add(path, `is missing: say where events go, as in kafka://host:9092, amqp://user@host/ or "stdout:"`)
	case broker.isName():
		if _, known := config.Brokers[broker.text]; !known {
			c.add(path, noSuchBroker, broker.text)
		}
	default:
		if _, err := broker.Parse(); err != nil {
			c.add(path, "%v", err)
		}
	}
}

// checkProgram sets and checks what is not of an outbox.
func (config *Config) checkProgram(c *collector) {
	for name, u := range config.Brokers {
		path := join("brokers", name)
		if strings.Contains(name, ":") {
			c.add(path, "has a colon in its name, which makes it a URL where it is used: choose another")
		}
		if _, err := u.Parse(); err != nil {
			c.add(path, "%v", err)
		}
	}
	if config.Listen == "" {
		config.Listen = DefaultListen
	}
	if _, _, err := net.SplitHostPort(config.Listen); err != nil && config.Listen != "off" {
		c.add("listen", "is %q: write host:port, as in %s, or off", config.Listen, DefaultListen)
	}
	if config.MaxPendingAge < 0 {
		c.add("max_pending_age", "is %v: it must be positive, or 0 for the default of 5m", config.MaxPendingAge)
	}
	if config.MaxPendingAge == 0 {
		config.MaxPendingAge = 5 * time.Minute
	}
	if config.Log.Level == "" {
		config.Log.Level = "info"
	}
	if levels := []string{"debug", "info", "warn", "error"}; !slices.Contains(levels, config.Log.Level) {
		c.add("log.level", "is %q: it must be debug, info, warn or error", config.Log.Level)
	}
	if config.Log.Format == "" {
		config.Log.Format = "text"
	}
	if !slices.Contains([]string{"text", "json"}, config.Log.Format) {
		c.add("log.format", "is %q: it must be text or json", config.Log.Format)
	}
}
