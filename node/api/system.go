package api

import (
	"context"
	"net/http"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

func (s *server) registerSystem() {
	register(s, operation{
		id: "get-health", method: http.MethodGet, path: "/healthz", tag: "system",
		summary: "Whether the process is alive",
	}, func(context.Context, *call, *struct{}) (*healthOutput, error) {
		return &healthOutput{Body: health{Status: "alive"}}, nil
	})
	register(s, operation{
		id: "get-ready", method: http.MethodGet, path: "/readyz", tag: "system",
		summary:     "Whether the node should get requests",
		description: "Ready, with status 200, if the node knows a leader, keeps up with the log and does not drain; else status 503 and the reasons.",
	}, s.ready)
	register(s, operation{
		id: "get-openapi", method: http.MethodGet, path: "/openapi.json", tag: "system", produces: openAPIJSON,
		summary: "This description, as JSON",
	}, s.serveDocument(0))
	register(s, operation{
		id: "get-openapi-yaml", method: http.MethodGet, path: "/openapi.yaml", tag: "system", produces: openAPIYAML,
		summary: "This description, as YAML",
	}, s.serveDocument(1))
	metrics := promhttp.HandlerFor(s.cfg.Registry, promhttp.HandlerOpts{})
	register(s, operation{
		id: "get-metrics", method: http.MethodGet, path: "/metrics", tag: "system", produces: "text/plain",
		summary: "Metrics in Prometheus' format",
	}, func(_ context.Context, c *call, _ *struct{}) (*written, error) {
		metrics.ServeHTTP(c.w, c.r)
		return nil, nil
	})
}

type health struct {
	Status string `json:"status" enum:"alive"`
}

type healthOutput struct {
	Body health
}

type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty" doc:"Why it is not"`
}

type readyOutput struct {
	Status     int
	RetryAfter string `header:"Retry-After"`
	Body       readiness
}

func (s *server) ready(context.Context, *call, *struct{}) (*readyOutput, error) {
	reasons := s.cfg.Backend.NotReady()
	if len(reasons) > 0 {
		return &readyOutput{Status: http.StatusServiceUnavailable, RetryAfter: "1", Body: readiness{Reasons: reasons}}, nil
	}
	return &readyOutput{Status: http.StatusOK, Body: readiness{Ready: true}}, nil
}

func (s *server) serveDocument(i int) func(context.Context, *call, *struct{}) (*written, error) {
	return func(_ context.Context, c *call, _ *struct{}) (*written, error) {
		c.w.begin(s.openAPI[i].contentType)
		_, _ = c.w.Write(s.openAPI[i].body) // the caller may be gone
		return nil, nil
	}
}
