package main

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/lockstep-go/lockstep/config"
	"github.com/lockstep-go/lockstep/config/all"
	"github.com/lockstep-go/lockstep/core"
)

// newIdle returns the program on an empty outbox, with nothing running.
func newIdle(t *testing.T) *program {
	t.Helper()
	c, err := config.Load(config.Source{
		Lookup: func(string) (string, bool) { return "", false },
		Flags:  map[string]string{"database": "sqlite:" + t.TempDir() + "/shop.db", "broker": "file:" + t.TempDir() + "/events.jsonl"},
	})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := all.Registry().Open(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := opened.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := opened.Outboxes[0].Dialect.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return newProgram(c, opened, slog.New(slog.DiscardHandler), nil)
}

func get(t *testing.T, p *program, path string) (int, string) {
	t.Helper()
	answer := httptest.NewRecorder()
	p.handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
	return answer.Code, answer.Body.String()
}

func TestEveryMetricOfTheAlertsExists(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../deploy/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	if err := yaml.Unmarshal(content, &rules); err != nil {
		t.Fatal(err)
	}
	p := newIdle(t)
	p.sites[0].monitor.look(t.Context())
	_, exposed := get(t, p, "/metrics")
	missing, named := func(expr string) (missing []string, named int) {
		for _, name := range regexp.MustCompile(`lockstep_\w+`).FindAllString(expr, -1) {
			named++
			if !regexp.MustCompile(`(?m)^` + name + `(\{| )`).MatchString(exposed) {
				missing = append(missing, name)
			}
		}
		return missing, named
	}, 0
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			gone, n := missing(rule.Expr)
			if named += n; len(gone) > 0 || n == 0 {
				t.Errorf("%s: %d metrics named, of which %v do not exist", rule.Alert, n, gone)
			}
		}
	}
	if named == 0 {
		t.Error("no rule names a metric")
	}
	if gone, _ := missing("lockstep_nothing_like_it > 0"); len(gone) != 1 {
		t.Error("the check does not see that a metric is missing")
	}
}

// What the relay tells of its database is counted by the step that failed.
func TestDatabaseFailuresAreCountedByStep(t *testing.T) {
	t.Parallel()
	p := newIdle(t)
	hooks := p.metrics.hooks("default", nil, &monitor{})
	for _, step := range []string{"settle", "renew the lease", "settle"} {
		hooks.DatabaseFailed(step, errors.New("the connection was lost"))
	}
	_, exposed := get(t, p, "/metrics")
	for _, want := range []string{
		`lockstep_database_failures_total{outbox="default",step="settle"} 2`, `lockstep_database_failures_total{outbox="default",step="renew the lease"} 1`,
	} {
		if !strings.Contains(exposed, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

// A relay that delivers nothing is not ready, however well it runs.
func TestReadiness(t *testing.T) {
	t.Parallel()
	p := newIdle(t)
	m := p.sites[0].monitor
	for _, tt := range []struct {
		name string
		now  sight
		want string
	}{
		{"not looked yet", sight{}, "nothing is known yet"},
		{"nobody leads", sight{seen: true, lease: core.Lease{Expired: true}}, "no relay holds the lease"},
		{"old", sight{seen: true, stats: core.Stats{OldestAge: time.Hour}}, "the oldest pending event is 1h0m0s old"},
		{"no database", sight{seen: true, database: context.DeadlineExceeded}, "the database is not usable"},
		{"no broker", sight{seen: true, brokers: map[string]error{"events": core.ErrUnavailable}}, "the broker events cannot be reached"},
		{"several servers", sight{seen: true, brokers: map[string]error{"events": errors.Join(errors.New("k1 is away"), errors.New("k2 is away"))}}, "k1 is away; k2 is away"},
		{"somebody leads", sight{seen: true, brokers: map[string]error{"events": nil}}, "delivering"},
	} {
		m.now = tt.now
		code, text := get(t, p, "/readyz")
		if !strings.Contains(text, tt.want) || (code == http.StatusOK) != (tt.want == "delivering") {
			t.Errorf("%s: got %d: %s, want %q", tt.name, code, text, tt.want)
		}
	}
}

func TestEventsOfSampledTracesGetASpan(t *testing.T) {
	t.Parallel()
	exporter := tracetest.NewInMemoryExporter()
	spans := newTracing(slog.New(slog.DiscardHandler), sdktrace.WithSyncer(exporter))
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	spans.published(core.PublishReport{
		Took: time.Second,
		Messages: []core.Message{
			{ID: "1", Topic: "orders", Headers: map[string]string{"traceparent": "00-" + id + "-00f067aa0ba902b7-01"}},
			{ID: "2", Topic: "orders", Headers: map[string]string{"traceparent": "00-" + id + "-00f067aa0ba902b7-00"}},
			{ID: "3", Topic: "orders", Headers: map[string]string{"traceparent": "nonsense"}},
			{ID: "4", Topic: "orders"},
		},
		Results: []error{core.ErrUnavailable, nil, nil, nil},
	})
	got := exporter.GetSpans()
	if len(got) != 1 {
		t.Fatalf("got %d spans, want that of the sampled event", len(got))
	}
	s := got[0]
	if s.SpanContext.TraceID().String() != id || s.Parent.SpanID().String() != "00f067aa0ba902b7" || s.Name != "publish orders" ||
		s.EndTime.Sub(s.StartTime) != time.Second || s.Status.Description != "unavailable" {
		t.Errorf("got %+v", s)
	}
	var none *tracing
	none.published(core.PublishReport{Messages: []core.Message{{}}, Results: []error{nil}})
	none.stop()
}
