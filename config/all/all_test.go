package all_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
	"github.com/lockstep-go/lockstep/internal/leaks"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, leaks.OfSarama()...)
}

// Nothing is connected when a URL is opened, so nothing has to be there.
func TestWhatEachURLOpens(t *testing.T) {
	t.Parallel()
	registry, discard := all.Registry(), slog.New(slog.DiscardHandler)
	for text, want := range map[string]string{ // "" is fine
		"postgres://u:p@db/shop": "",
		"postgresql://u:p@pooler:6432/shop?sslmode=disable&listen_host=db:5432": "",
		"postgres://u:p@a:1,b:2/shop":                                           "",
		"mysql://u:p@db/shop":                                                   "",
		"mariadb://u:p@db:3307/shop?tls=true":                                   "",
		"mysql://u:hunter2@db:port/shop":                                        "is not a URL",
		"sqlite:" + filepath.Join(t.TempDir(), "shop.db"):                       "",
		"sqlite://shop.db":                                                      "does not name a file: write sqlite:relative/path",
		"sqlite:":                                                               "does not name a file",
		"sqlite:shop.db?mode=ro":                                                "unknown parameter mode: there are none",
		"sqlite:shop.db#1":                                                      "does not name a file",
		"oracle://db/shop":                                                      "there are mariadb, mysql, postgres, postgresql, sqlite",
		"postgres://u@db/s?a=%zz":                                               "parameters that cannot be read",
		"mysql://u:hunter2@a,b/sho":                                             "name one host",
	} {
		dialect, err := registry.OpenDialect(config.NewURL(text), config.Options{})
		wantError(t, text, err, want)
		if err == nil && dialect.Close() != nil {
			t.Errorf("%s cannot be closed", text)
		}
	}
	for text, want := range map[string]string{
		"kafka://k1": "",
		"kafka://k1:9092,k2?compression=zstd&client_id=relay&cloudevents_source=/shop": "",
		"kafka+tls://u:p@k1:9093,k2:9093?sasl=scram-sha-512":                           "",
		"kafka+tls://u:p@k1?sasl=plain":                                                "",
		"kafka://u:p@k1?sasl=scram-sha-256":                                            "",
		"kafka://u:hunter2@k1?sasl=plain":                                              "would send its password readably",
		"kafka://u:hunter2@k1":                                                         "does not say how to log in",
		"kafka://k1?sasl=plain":                                                        "without user and password",
		"kafka://u:hunter2@k1?sasl=gssapi":                                             "parameter sasl that is none of plain, scram-sha-256, scram-sha-512",
		"kafka://k1?squeeze=zstd":                                                      "unknown parameter squeeze: there are client_id, cloudevents_source, compression, sasl",
		"kafka://k1?ca_file=x":                                                         "unknown parameter ca_file",
		"kafka://k1?compression=gzip&compression=lz4":                                  "needs one value",
		"kafka+tls://k1?ca_file=/nowhere":                                              "needs ca_file",
		"kafka+tls://k1?cert_file=/nowhere":                                            "cert_file and key_file together",
		"kafka://":                                                                     "has no host",
		"kafka://k1,":                                                                  "has no host",
		"kafka://k1/orders":                                                            "has a path",
		"amqp://u:p@r1,r2:5673/shop?heartbeat=5&cloudevents_source=/shop&pipelined=true": "",
		"amqps://u:p@r1/%2F?server_name_indication=rabbit":                               "",
		"amqp://u:hunter2@r1/?heartbeats=5":                                              "unknown parameter heartbeats",
		"amqp://u:hunter2@r1/?pipelined=yes":                                             "none of true, false",
		"watermill+kafka://k1:9092":                                                      "",
		"watermill+kafka://u:hunter2@k1:9092":                                            "has more than hosts",
		"watermill+kafka://k1?acks=1":                                                    "unknown parameter acks",
		"stdout:":                                                                        "",
		"stdout:x":                                                                       "is not stdout: alone",
		"file:" + filepath.Join(t.TempDir(), "events.jsonl"):                             "",
		"file:/nowhere/events.jsonl":                                                     "no such file or directory",
		"nats://n1":                                                                      "there are amqp, amqps, file, kafka, kafka+tls, stdout, watermill+kafka",
	} {
		broker, err := registry.OpenBroker(config.NewURL(text), discard)
		wantError(t, text, err, want)
		if closer, ok := broker.(io.Closer); ok && err == nil && closer.Close() != nil {
			t.Errorf("%s cannot be closed", text)
		}
	}
}

func wantError(t *testing.T, text string, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("%s: %v", text, err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("%s: got %v, want an error with %q", text, err, want)
	case err != nil && strings.Contains(err.Error(), "hunter2"):
		t.Errorf("%s: the error holds the password: %v", text, err)
	}
}

func TestSQLiteHasNoSchemas(t *testing.T) {
	t.Parallel()
	_, err := all.Registry().OpenDialect(config.NewURL("sqlite:a.db"), config.Options{Schema: "s"})
	wantError(t, "sqlite:a.db", err, "which has no schemas")
}

// Watermill's publisher dials when it is made. Behind its URL it is made when it is needed, so that a broker may be away.
func TestWatermillWaitsForItsBroker(t *testing.T) {
	t.Parallel()
	broker, err := all.Registry().OpenBroker(config.NewURL("watermill+kafka://127.0.0.1:1"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "orders"}, {ID: "2", Topic: "orders"}})
		for _, result := range core.Results(err, 2) {
			if !errors.Is(result, core.ErrUnavailable) {
				t.Errorf("got %v, want unavailable", result)
			}
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := broker.Publish(ended, []core.Message{{ID: "1", Topic: "orders"}}); !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("got %v after the context's end, want unavailable", err)
	}
	if err := broker.(io.Closer).Close(); err != nil {
		t.Error(err)
	}
	if err := broker.Publish(t.Context(), []core.Message{{ID: "1", Topic: "orders"}}); !errors.Is(err, core.ErrUnavailable) {
		t.Errorf("got %v after Close, want unavailable", err)
	}
}
