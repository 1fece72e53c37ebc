package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/chaos/cluster"
)

// local asks a node over its unix socket, which needs no network and no token.
type local struct{ http *http.Client }

func newLocal(n *cluster.Node) *local {
	socket := filepath.Join(n.Dir, "holdfast.sock")
	return &local{&http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // the node may be another process by the next call
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// maxMetrics bounds what is read of a node's metrics.
const maxMetrics = 4 << 20

func (l *local) get(ctx context.Context, path string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://node"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMetrics))
	return resp.StatusCode, body, err
}

// ready tells whether the node says that it can work.
func (l *local) ready(ctx context.Context) bool {
	status, _, err := l.get(ctx, "/readyz")
	return err == nil && status == http.StatusOK
}

// samples are a node's metrics by name with labels, as in
// holdfast_consensus_elections_total{cause="timer"}.
type samples map[string]float64

func metrics(ctx context.Context, n *cluster.Node) (samples, error) {
	status, body, err := newLocal(n).get(ctx, "/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", n.Addr, err)
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("metrics of %s: status %d: %s", n.Addr, status, body)
	}
	return parseMetrics(string(body)), nil
}

func parseMetrics(text string) samples {
	out := samples{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		if v, err := strconv.ParseFloat(line[i+1:], 64); err == nil {
			out[line[:i]] = v
		}
	}
	return out
}

// counters are the sums over nodes of one metric, by its labels, as in
// cause="timer".
func counters(ctx context.Context, nodes []*cluster.Node, name string) (samples, error) {
	out := samples{}
	for _, n := range nodes {
		m, err := metrics(ctx, n)
		if err != nil {
			return nil, err
		}
		for k, v := range m {
			if labels, ok := strings.CutPrefix(k, name); ok {
				out[strings.Trim(labels, "{}")] += v
			}
		}
	}
	return out, nil
}

// The counters that tell why a leader was replaced.
const (
	electionsMetric = "holdfast_consensus_elections_total"
	evidenceMetric  = "holdfast_consensus_evidence_total"
	byTimer         = `cause="timer"`
	byEvidence      = `cause="evidence"`
)

// since is what was added to counters.
func (s samples) since(before samples) samples {
	out := samples{}
	for k, v := range s {
		if v != before[k] {
			out[k] = v - before[k]
		}
	}
	return out
}

func (s samples) sum() (total float64) {
	for _, v := range s {
		total += v
	}
	return total
}

// String lists the counters in order.
func (s samples) String() string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(s)) {
		out = append(out, fmt.Sprintf("%v %s", s[k], strings.ReplaceAll(k, `"`, "")))
	}
	return strings.Join(out, "; ")
}
