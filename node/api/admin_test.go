package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/client"
	"holdfast/fsm"
)

func TestNodes(t *testing.T) {
	h := newHarness(t, nil)
	var list client.NodeList
	h.do("GET", "/v1/nodes", "ann:viewer", "").into(t, 200, &list)
	if len(list.Nodes) != 1 || list.Nodes[0].ID != "n1" || list.Nodes[0].Role != "leader" || list.Nodes[0].Gossip != "alive" || list.Nodes[0].State != "ready" || list.Nodes[0].Labels["zone"] != "a" {
		t.Errorf("%+v", list)
	}
	if !slices.Equal(list.Nodes[0].Weaker, []string{"landlock"}) {
		t.Errorf("weaker: %v", list.Nodes[0].Weaker)
	}
	var n client.Node
	h.do("POST", "/v1/nodes/n1/drain", "ann:operator", `{"drain":true}`).into(t, 200, &n)
	if n.State != "draining" {
		t.Errorf("drained into %s", n.State)
	}
	h.do("POST", "/v1/nodes/n1/drain", "ann:operator", `{"drain":false}`).into(t, 200, &n)
	if n.State != "ready" {
		t.Errorf("undrained into %s", n.State)
	}
	h.do("POST", "/v1/nodes/n1/drain", "ann:operator", `{}`).problem(t, 422, client.CodeInvalid)
	h.do("POST", "/v1/nodes/n9/drain", "ann:operator", `{"drain":true}`).problem(t, 404, client.CodeNotFound)
	h.do("GET", "/v1/nodes/n9", "ann:operator", "").problem(t, 404, client.CodeNotFound)
	h.do("DELETE", "/v1/nodes/n9", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	if a := h.do("DELETE", "/v1/nodes/n1", "ann:admin", ""); a.status != 204 || len(a.body) != 0 {
		t.Errorf("removed with %d %s", a.status, a.body)
	}
	h.do("GET", "/v1/nodes/n1", "ann:viewer", "").into(t, 200, &n)
	if n.State != "removed" {
		t.Errorf("removed into %s", n.State)
	}
}

func TestTokens(t *testing.T) {
	now := time.Now().Add(time.Minute).Truncate(time.Second) // the state has had its first commands
	h := newHarness(t, func(c *Config) { c.Now = func() time.Time { return now } })
	h.backend.now = func() time.Time { return now }
	var made client.NewToken
	h.do("POST", "/v1/tokens", "ann:admin", `{"name":"ci","role":"submitter","ttl":"1h"}`).into(t, 201, &made)
	if made.Secret != "hf_id1_secret" || made.Role != "submitter" || !made.ExpiresAt.Equal(now.Add(time.Hour)) || !made.CreatedAt.Equal(now) || made.UsesLeft != nil {
		t.Errorf("%+v", made)
	}
	h.do("POST", "/v1/tokens", "ann:admin", `{"role":"node"}`).into(t, 201, &made)
	if made.Secret != "hfj_id2_secret" || *made.UsesLeft != 1 || !made.ExpiresAt.Equal(now.Add(time.Hour)) {
		t.Errorf("join token %+v", made)
	}
	for _, bad := range []string{`{}`, `{"role":"root"}`, `{"role":"admin","uses":2}`, `{"role":"node","uses":10001}`, `{"role":"node","uses":-1}`, `{"role":"admin","ttl":"1000000h"}`, `{"role":"admin","name":"a\u0007b"}`} {
		h.do("POST", "/v1/tokens", "ann:admin", bad).problem(t, 422, client.CodeInvalid)
	}
	h.do("POST", "/v1/tokens", "ann:admin", `{"role":"admin","secret":"mine"}`).problem(t, 400, client.CodeInvalid)
	var list client.TokenList
	a := h.do("GET", "/v1/tokens", "ann:admin", "")
	a.into(t, 200, &list)
	if len(list.Tokens) != 2 || strings.Contains(string(a.body), "secret") {
		t.Errorf("%s", a.body)
	}
	h.do("GET", "/v1/tokens", "ann:operator", "").problem(t, 403, client.CodeForbidden)
	if a := h.do("DELETE", "/v1/tokens/id1", "ann:admin", ""); a.status != 204 {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.do("DELETE", "/v1/tokens/id1", "ann:admin", "").problem(t, 404, client.CodeNotFound)
	for _, l := range h.audit.all() {
		if strings.Contains(l, "secret") {
			t.Errorf("the audit holds a secret: %s", l)
		}
	}
}

func TestCancelOwnership(t *testing.T) {
	h := newHarness(t, nil)
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	h.do("POST", "/v1/tasks/t1/cancel", "bob:submitter", "").problem(t, 403, client.CodeForbidden)
	h.do("POST", "/v1/tasks/t9/cancel", "bob:submitter", "").problem(t, 404, client.CodeNotFound)
	var task client.Task
	h.do("POST", "/v1/tasks/t1/cancel", "bob:operator", "").into(t, 200, &task)
	if task.State != "cancelled" || task.Result == nil || task.Result.Reason != "cancelled" {
		t.Errorf("%+v", task)
	}
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	h.do("POST", "/v1/tasks/t2/cancel", "ann:submitter", "").into(t, 200, &task)
}

func TestClusterAndReadiness(t *testing.T) {
	h := newHarness(t, nil)
	h.backend.barrier = func(context.Context, ReadOptions) (ReadInfo, error) { return ReadInfo{}, ErrNoLeader }
	var status client.ClusterStatus
	h.do("GET", "/v1/cluster", "ann:viewer", "").into(t, 200, &status) // also without a leader
	if status.ClusterID != "c1" || status.StateHash != "" {
		t.Errorf("%+v", status)
	}
	h.do("GET", "/v1/cluster?state_hash=true", "ann:viewer", "").into(t, 200, &status)
	if status.StateHash == "" {
		t.Error("the hash was asked for and is not there")
	}
	h.do("GET", "/v1/cluster?consistency=linearizable", "ann:viewer", "").problem(t, 503, client.CodeUnavailable)
	h.do("POST", "/v1/cluster/transfer", "ann:operator", "").problem(t, 409, client.CodeConflict)
	if a := h.do("GET", "/readyz", "", ""); a.status != 200 || !strings.Contains(string(a.body), `"ready":true`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.backend.notReady = []string{"no leader is known", "draining"}
	if a := h.do("GET", "/readyz", "", ""); a.status != 503 || a.header.Get("Retry-After") == "" || !strings.Contains(string(a.body), "draining") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := h.do("GET", "/metrics", "ann:viewer", ""); a.status != 200 || !strings.Contains(string(a.body), `holdfast_api_requests_total{class="2xx",operation="get-ready"} 1`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestSnapshots(t *testing.T) {
	h := newHarness(t, nil)
	if a := h.do("GET", "/v1/snapshot", "ann:admin", ""); a.status != 200 || string(a.body) != "snapshot bytes" || a.header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	octet := []string{"Content-Type", "application/octet-stream"}
	if a := h.do("POST", "/v1/snapshot", "ann:admin", "portable", octet...); a.status != 204 || string(h.backend.restored) != "portable" {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.do("POST", "/v1/snapshot", "ann:admin", "bad one", octet...).problem(t, 422, client.CodeInvalid)
	h.backend.snapshot = func(io.Writer) error { return ErrNoLeader }
	h.do("GET", "/v1/snapshot", "ann:admin", "").problem(t, 503, client.CodeUnavailable)
	// One that breaks off in the middle must not look whole.
	h.backend.snapshot = func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("x", 100<<10))
		return errors.Join(err, errors.New("disk"))
	}
	h.both(t, func(t *testing.T, hc *http.Client) {
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/v1/snapshot", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer ann:admin")
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("half a snapshot came as a whole one")
		}
	})
	all := h.audit.all()
	if len(all) != 6 || all[0] != "token:ann save-snapshot  ok" || all[5] != "token:ann save-snapshot  internal" {
		t.Errorf("audit: %q", all)
	}
}

func TestOutput(t *testing.T) {
	h := newHarness(t, nil)
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	a := h.do("GET", "/v1/tasks/t1/output?offset=4&attempt=2", "bob:viewer", "")
	if a.status != 200 || string(a.body) != "456789" || a.header.Get("Content-Type") != "application/octet-stream" ||
		a.header.Get("Holdfast-Attempt") != "2" || a.header.Get("Holdfast-Output-Total") != "10" ||
		a.header.Get("Holdfast-Output-Truncated") != "true" || a.header.Get("Holdfast-Output-Ended") != "true" || a.header.Get("Holdfast-Index") == "" {
		t.Errorf("%d %q %v", a.status, a.body, a.header)
	}
	h.do("GET", "/v1/tasks/t1/output?offset=99", "bob:viewer", "").problem(t, 422, client.CodeInvalid)
	h.do("GET", "/v1/tasks/t9/output", "bob:viewer", "").problem(t, 404, client.CodeNotFound)
	h.both(t, func(t *testing.T, hc *http.Client) {
		pr, pw := io.Pipe()
		h.backend.mu.Lock()
		h.backend.output = func(_ context.Context, r OutputRequest) (io.ReadCloser, OutputInfo, error) {
			if !r.Follow || !r.Stderr || r.Task != fsm.TaskID(1) {
				return nil, OutputInfo{}, fmt.Errorf("asked for %+v", r)
			}
			return pr, OutputInfo{Attempt: 1}, nil
		}
		h.backend.mu.Unlock()
		req, err := http.NewRequestWithContext(t.Context(), "GET", h.server.URL+"/v1/tasks/t1/output?follow=true&stream=stderr", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer bob:viewer")
		resp, err := hc.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for _, piece := range []string{"one", "two"} { // each arrives before the next is written
			if _, err := io.WriteString(pw, piece); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(piece))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != piece {
				t.Fatalf("%q %v", got, err)
			}
		}
		pw.CloseWithError(errors.New("the worker is gone"))
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("an output that broke off looks whole")
		}
	})
}

func TestListPages(t *testing.T) {
	h := newHarness(t, nil)
	for i := range 7 {
		h.do("POST", "/v1/tasks", "ann:submitter", fmt.Sprintf(`{"command":["a"],"name":"n%d","labels":{"odd":"%t"}}`, i%2, i%2 == 1))
	}
	h.do("POST", "/v1/tasks", "bob:submitter", echo)
	collect := func(query string) (ids []string) {
		cursor := ""
		for {
			var list client.TaskList
			h.do("GET", "/v1/tasks?"+query+cursor, "ann:viewer", "").into(t, 200, &list)
			for _, task := range list.Tasks {
				ids = append(ids, task.ID)
			}
			if list.Cursor == "" {
				return ids
			}
			cursor = "&cursor=" + list.Cursor
		}
	}
	for query, want := range map[string]string{
		"limit=3":                               "[t1 t2 t3 t4 t5 t6 t7 t8]",
		"limit=3&order=newest":                  "[t8 t7 t6 t5 t4 t3 t2 t1]",
		"limit=2&owner=token:ann&order=newest":  "[t7 t6 t5 t4 t3 t2 t1]",
		"limit=4":                               "[t1 t2 t3 t4 t5 t6 t7 t8]",
		"limit=2&label=odd%3Dtrue":              "[t2 t4 t6]",
		"name=n0&limit=1":                       "[t1 t3 t5 t7]",
		"state=running&state=failed":            "[]",
		"state=running&state=queued&limit=1000": "[t1 t2 t3 t4 t5 t6 t7 t8]",
		"label=odd%3Dtrue&label=odd%3Dfalse":    "[]",
	} {
		if got := fmt.Sprint(collect(query)); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var list client.TaskList
	h.do("GET", "/v1/tasks?limit=3&spec=true", "ann:viewer", "").into(t, 200, &list)
	if list.Tasks[0].Spec == nil {
		t.Error("the spec was asked for and is not there")
	}
	// A cursor belongs to its filters.
	h.do("GET", "/v1/tasks?limit=3&order=newest&cursor="+list.Cursor, "ann:viewer", "").problem(t, 422, client.CodeInvalid)
	h.do("GET", "/v1/tasks?limit=3&name=x&cursor="+list.Cursor, "ann:viewer", "").problem(t, 422, client.CodeInvalid)
}
