package docs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/chaos/docs"
	"holdfast/client"
)

// caller asks one node with any token.
type caller struct {
	http *http.Client
	base string
}

func (c caller) do(t *testing.T, method, path, token string) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, c.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

var roles = []string{"none", "viewer", "submitter", "operator", "admin"}

// startOne runs a one-node cluster and gives a token of each role.
func startOne(t *testing.T) (caller, *cluster.Cluster, map[string]string) {
	t.Helper()
	needRoot(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp("", "hfdocs-")
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Start(ctx, cluster.Options{Binary: binary, Nodes: 1, Dir: filepath.Join(dir, "c"), Env: []string{"HOLDFAST_DRAIN=100ms"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	tokens := map[string]string{"admin": c.AdminToken, "none": ""}
	cl, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, role := range roles[1:4] {
		tok, err := cl.CreateToken(ctx, client.TokenRequest{Role: role, TTL: client.Duration(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		tokens[role] = tok.Secret
	}
	tc, err := client.TLSConfig(c.CAPin, nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: tc}
	t.Cleanup(transport.CloseIdleConnections)
	return caller{&http.Client{Transport: transport}, "https://" + c.Nodes[0].Addr}, c, tokens
}

func rows(t *testing.T, page, heading string) [][]string {
	t.Helper()
	table, err := docs.Table(pages(t)[page], heading)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestRoutes compares the table of routes with the description that a node
// serves, and tries every route with the role that the table names and with
// the one below.
func TestRoutes(t *testing.T) {
	call, _, tokens := startOne(t)
	status, b := call.do(t, "GET", "/openapi.json", "")
	if status != 200 {
		t.Fatalf("the description: status %d", status)
	}
	var doc struct {
		Paths      map[string]map[string]json.RawMessage
		Components struct {
			Schemas map[string]struct {
				Properties map[string]struct{ Enum []string }
			}
		}
	}
	if err := json.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	served := map[string]bool{}
	for path, methods := range doc.Paths {
		for m := range methods {
			served[strings.ToUpper(m)+" "+path] = true
		}
	}
	for _, row := range rows(t, "api.md", "Routes") {
		route := row[0] + " " + row[1]
		if !served[route] {
			t.Errorf("the page has %s, which is not served", route)
		}
		delete(served, route)
		least := slices.Index(roles, row[2])
		if least < 0 {
			t.Errorf("%s: %q is no role", route, row[2])
			continue
		}
		path := strings.ReplaceAll(row[1], "{id}", "t4711") // nobody's
		if code, b := call.do(t, row[0], path, tokens[row[2]]); code == 401 || code == 403 {
			t.Errorf("%s as %s: status %d: %s", route, row[2], code, b)
		}
		if least > 0 {
			if code, _ := call.do(t, row[0], path, tokens[roles[least-1]]); code != 401 && code != 403 {
				t.Errorf("%s as %s: status %d, want a refusal", route, roles[least-1], code)
			}
		}
	}
	for route := range served {
		t.Errorf("%s is served, and not on the page", route)
	}
	types := doc.Components.Schemas["Problem"].Properties["type"].Enum
	for _, row := range rows(t, "api.md", "Problems") {
		if i := slices.Index(types, client.ProblemPrefix+row[0]); i >= 0 {
			types = slices.Delete(types, i, i+1)
		} else {
			t.Errorf("the page has the problem %q, which no node answers", row[0])
		}
		if _, err := strconv.Atoi(row[1][:3]); err != nil {
			t.Errorf("%s: %q does not begin with a status", row[0], row[1])
		}
	}
	for _, rest := range types {
		t.Errorf("the problem %s is not on the page", rest)
	}
}

// TestMetricsOfOperatePage wants every metric that the page names to be one
// that a node knows. Those with labels are not shown before they have a value,
// so that the source has the last word.
func TestMetricNames(t *testing.T) {
	known := metricNames(t)
	for name, page := range pages(t) {
		for _, m := range metricRE.FindAllString(page, -1) {
			if !known[m] {
				t.Errorf("%s names the metric %s, which does not exist", name, m)
			}
		}
	}
	for m := range known {
		if !strings.Contains(pages(t)["operate.md"], m) {
			t.Errorf("the metric %s is not on the page", m)
		}
	}
	if len(known) < 20 {
		t.Fatal(fmt.Sprint("only these metrics were found: ", known))
	}
}
