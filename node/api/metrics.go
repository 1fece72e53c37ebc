package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the API's. Those of one operation are resolved once, so that a
// request hashes no labels.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	lines    *prometheus.CounterVec
	panics   prometheus.Counter
}

type opMetrics struct {
	classes  [6]prometheus.Counter // by the status' first digit; 0 = nothing was sent
	duration prometheus.Observer
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_api_requests_total",
			Help: "Requests by operation and class of status.",
		}, []string{"operation", "class"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "holdfast_api_request_seconds",
			Help: "Time to the end of the answer, by operation.",
			// From a local read to a failover and a long poll.
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation"}),
		lines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_api_stream_lines_total",
			Help: "Lines of submission streams by outcome.",
		}, []string{"outcome"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_api_panics_total",
			Help: "Requests that ended in a panic.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.lines, m.panics} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) of(operation string) *opMetrics {
	o := &opMetrics{duration: m.duration.WithLabelValues(operation)}
	for i := range o.classes {
		class := "none"
		if i > 0 {
			class = strconv.Itoa(i) + "xx"
		}
		o.classes[i] = m.requests.WithLabelValues(operation, class)
	}
	return o
}

func (o *opMetrics) observe(status int, took time.Duration) {
	class := status / 100
	if class < 0 || class >= len(o.classes) {
		class = 0
	}
	o.classes[class].Inc()
	o.duration.Observe(took.Seconds())
}
