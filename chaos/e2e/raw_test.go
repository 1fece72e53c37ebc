package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// raw speaks HTTP to one node, where the SDK would retry or go elsewhere.
type raw struct {
	http  *http.Client
	addr  string
	token string
}

func dialRaw(t *testing.T, c *cluster.Cluster, n *cluster.Node) *raw {
	t.Helper()
	conf, err := client.TLSConfig(c.CAPin, nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{TLSClientConfig: conf, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &raw{&http.Client{Transport: tr}, n.Addr, c.AdminToken}
}

// answer is what one node said.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	problem client.Problem // of a refusal
}

// do sends one request, at most for some seconds. A body is sent as JSON.
func (r *raw) do(ctx context.Context, method, path string, body any, header ...string) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = strings.NewReader(string(b))
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+r.addr+path, in)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := r.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, header: res.Header}
	if a.body, err = io.ReadAll(io.LimitReader(res.Body, 8<<20)); err != nil {
		return nil, err
	}
	if a.status >= 400 {
		if err := json.Unmarshal(a.body, &a.problem); err != nil {
			return nil, fmt.Errorf("status %d without a problem: %s", a.status, a.body)
		}
	}
	return a, nil
}

func (a *answer) into(v any) error {
	if a.status >= 300 {
		return fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return json.Unmarshal(a.body, v)
}

// stateAt is a node's applied index and the hash of its state there.
func stateAt(ctx context.Context, r *raw) (uint64, string, error) {
	a, err := r.do(ctx, http.MethodGet, "/v1/cluster?state_hash=true", nil)
	if err != nil {
		return 0, "", err
	}
	var s client.ClusterStatus
	if err := a.into(&s); err != nil {
		return 0, "", err
	}
	if s.StateHash == "" {
		return 0, "", fmt.Errorf("no hash in %s", a.body)
	}
	return s.Index, s.StateHash, nil
}
