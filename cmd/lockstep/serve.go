package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// server is the server of health, readiness and metrics.
type server struct {
	http    *http.Server
	running sync.WaitGroup
}

// serve answers on listener until the server is stopped. Without a listener it does nothing.
func (p *program) serve(listener net.Listener) *server {
	s := &server{}
	if listener == nil {
		return s
	}
	s.http = &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
	}
	s.running.Go(func() {
		if err := s.http.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.log.Error("health and metrics are not served any more", "cause", err)
		}
	})
	p.log.Info("health, readiness and metrics are served", "address", listener.Addr().String())
	return s
}

func (s *server) stop() {
	if s.http == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close() // whoever is still reading has had their second
	}
	s.running.Wait()
}

func (p *program) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", p.ready)
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{}))
	return mux
}

// ready answers with a line for each reason why events are not being delivered.
func (p *program) ready(w http.ResponseWriter, _ *http.Request) {
	var problems []string
	for _, s := range p.sites {
		for _, problem := range s.monitor.problems() {
			problems = append(problems, "outbox "+s.name+": "+strings.ReplaceAll(problem, "\n", "; ")) // several servers, say
		}
	}
	if len(problems) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	} else {
		problems = []string{"delivering"}
	}
	for _, problem := range problems {
		_, _ = fmt.Fprintln(w, problem)
	}
}
