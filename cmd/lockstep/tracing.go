package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/lockstep-go/lockstep/core"
)

// tracing sends a span for each event whose trace is sampled. A nil one does nothing.
type tracing struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	log      *slog.Logger
}

// startTracing returns what the usual variables of OpenTelemetry ask for, which may be nothing.
func startTracing(ctx context.Context, log *slog.Logger) (*tracing, error) {
	endpoint := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if endpoint == "" || os.Getenv("OTEL_SDK_DISABLED") == "true" || os.Getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	protocol := cmp.Or(os.Getenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL"), os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL"), "http/protobuf")
	if protocol != "http/protobuf" {
		return nil, &usageError{fmt.Errorf("traces are sent by http/protobuf, and OTEL_EXPORTER_OTLP_PROTOCOL is %s: unset it, and use the collector's port 4318", protocol)}
	}
	exporter, err := otlptracehttp.New(ctx)
	if err != nil {
		return nil, fmt.Errorf("send traces: %w", err)
	}
	// The environment's attributes come last, and win.
	described, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "lockstep-relay"), attribute.String("service.version", version()),
	), resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, &usageError{fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES: %w", err)}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("traces are not sent", "cause", err) }))
	t := newTracing(log, sdktrace.WithBatcher(exporter), sdktrace.WithResource(described))
	log.Info("traces are sent")
	return t, nil
}

func newTracing(log *slog.Logger, options ...sdktrace.TracerProviderOption) *tracing {
	provider := sdktrace.NewTracerProvider(options...)
	return &tracing{provider, provider.Tracer("github.com/lockstep-go/lockstep"), log}
}

// stop sends what is left, for at most 5 s.
func (t *tracing) stop() {
	if t == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := t.provider.Shutdown(ctx); err != nil {
		t.log.Warn("some traces were not sent", "cause", err)
	}
}

// published makes the call a span of each message's own trace, the child of the span in which it was enqueued: what lies
// between the two is the time in the outbox. What has no trace, or one that is not sampled, gets none.
func (t *tracing) published(call core.PublishReport) {
	if t == nil {
		return
	}
	end := time.Now()
	for i, m := range call.Messages {
		if m.Headers["traceparent"] == "" {
			continue
		}
		ctx := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier(m.Headers))
		if !trace.SpanContextFromContext(ctx).IsSampled() {
			continue
		}
		_, span := t.tracer.Start(ctx, "publish "+m.Topic, trace.WithTimestamp(end.Add(-call.Took)), trace.WithSpanKind(trace.SpanKindProducer),
			trace.WithAttributes(
				attribute.String("messaging.operation.type", "send"), attribute.String("messaging.destination.name", m.Topic),
				attribute.String("messaging.message.id", m.ID), attribute.Int("messaging.batch.message_count", len(call.Messages)),
				attribute.String("lockstep.result", core.ClassOf(call.Results[i])),
			))
		if call.Results[i] != nil {
			span.SetStatus(codes.Error, core.ClassOf(call.Results[i]))
		}
		span.End(trace.WithTimestamp(end))
	}
}
