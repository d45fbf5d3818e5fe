package main

import (
	"bytes"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lockstep-go/lockstep/internal/servers"
)

const secret = "hunter2"

// tellNoSecret runs commands on a database and a broker that cannot be worked with, and expects that none tells the password.
func tellNoSecret(t *testing.T, database, broker string, commands ...string) {
	t.Helper()
	for _, command := range commands {
		for _, format := range []string{"", " --json"} {
			args := append(strings.Fields(command+format), "--database", database)
			if broker != "" {
				args = append(args, "--broker", broker)
			}
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), args, &stdout, &stderr)
			if said := stdout.String() + stderr.String(); strings.Contains(said, secret) {
				t.Errorf("lockstep %s%s tells the password: %s", command, format, said)
			}
			if checks := strings.HasPrefix(command, "config check"); code == exitOK && !checks {
				t.Errorf("lockstep %s%s on %s and %s: it worked, and was to fail", command, format, database, broker)
			}
		}
	}
}

// Nobody is there, or what is there cannot be read: no error, finding or report has the password.
func TestNoPasswordOfWhoIsAway(t *testing.T) {
	t.Parallel()
	for _, database := range []string{
		"postgres://u:" + secret + "@127.0.0.1:1/shop",
		"postgres://u@127.0.0.1:1/shop?password=" + secret,
		"postgres://u:" + secret + "@127.0.0.1:1/shop?listen_host=127.0.0.1:2&sslmode=require",
		"mysql://u:" + secret + "@127.0.0.1:1/shop",
		"mariadb://u:" + secret + "@127.0.0.1:1/shop",
		"postgres://u:" + secret + " @127.0.0.1:1/shop",
		"mysql://u:" + secret + "@[::1/shop",
		"oracle://u:" + secret + "@127.0.0.1:1/shop",
	} {
		tellNoSecret(t, database, "", "status", "migrate --yes", "dead list", "held list", "topic pause orders --yes", "purge --older-than 1h --yes", "replay --all --yes")
		tellNoSecret(t, database, "stdout:", "config check", "doctor")
	}
	shop := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	var stdout, stderr bytes.Buffer
	if code := run(t.Context(), []string{"migrate", "--yes", "--database", shop}, &stdout, &stderr); code != exitOK {
		t.Fatalf("%s", &stderr)
	}
	for _, broker := range []string{
		"amqp://u:" + secret + "@127.0.0.1:1/",
		"amqps://u:" + secret + "@127.0.0.1:1/",
		"kafka://u:" + secret + "@127.0.0.1:1?sasl=scram-sha-256",
		"kafka+tls://u:" + secret + "@127.0.0.1:1?sasl=plain",
		"kafka://u:" + secret + "@127.0.0.1:1?sasl=plain",
		"kafka://u:" + secret + "@127.0.0.1:1?sasl=magic",
		"watermill+kafka://u:" + secret + "@127.0.0.1:1",
		"amqp://u:" + secret + "@127.0.0.1:x/",
		"nats://u:" + secret + "@127.0.0.1:1",
	} {
		tellNoSecret(t, shop, broker, "config check", "doctor --topic orders")
	}
}

// A server is there and refuses the password.
func TestNoPasswordThatIsRefused(t *testing.T) {
	t.Parallel()
	wrong := func(address string) string {
		u, err := url.Parse(address)
		if err != nil {
			t.Fatal("the server's address cannot be parsed")
		}
		u.User = url.UserPassword("lockstep_nobody", secret)
		return u.String()
	}
	for name, database := range map[string]func(t *testing.T) string{
		"postgres":  func(t *testing.T) string { return servers.Postgres(t) },
		"pgbouncer": func(t *testing.T) string { return servers.PgBouncerMode(t, "nowhere") },
		"mysql":     func(t *testing.T) string { return servers.MySQLURL(t) },
		"mariadb":   func(t *testing.T) string { return servers.MariaDBURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			database := wrong(database(t))
			tellNoSecret(t, database, "", "status", "migrate --yes")
			tellNoSecret(t, database, "stdout:", "doctor")
		})
	}
	t.Run("rabbitmq", func(t *testing.T) {
		t.Parallel()
		tellNoSecret(t, "sqlite:"+filepath.Join(t.TempDir(), "shop.db"), wrong(servers.RabbitMQ(t)), "doctor --topic orders")
	})
	t.Run("kafka", func(t *testing.T) {
		t.Parallel()
		tellNoSecret(t, "sqlite:"+filepath.Join(t.TempDir(), "shop.db"), wrong("kafka://"+servers.Kafka(t)+"?sasl=scram-sha-256"), "doctor --topic orders")
	})
}
