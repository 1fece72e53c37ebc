package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harness is the API over a real TLS listener.
type harness struct {
	t       testing.TB
	backend *memory
	audit   *journal
	server  *httptest.Server
	http1   *http.Client
	http2   *http.Client
}

func newHarness(t testing.TB, change func(*Config)) *harness {
	t.Helper()
	h := &harness{t: t, backend: newMemory(t), audit: &journal{}}
	cfg := Config{
		Backend: h.backend, Authenticator: words{}, Audit: journalAudit{h.audit}, Minter: &counterMinter{},
		Policy: ladder{"get-health": 0, "get-ready": 0, "get-openapi": 0, "submit-task": 2, "list-tokens": 4},
	}
	if change != nil {
		change(&cfg)
	}
	handler, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.server = httptest.NewUnstartedServer(handler)
	h.server.Config = NewHTTPServer(handler, nil, nil)
	h.server.EnableHTTP2 = true
	h.server.StartTLS()
	t.Cleanup(h.server.Close)
	h.http2 = h.server.Client()
	one := h.http2.Transport.(*http.Transport).Clone()
	one.Protocols = new(http.Protocols)
	one.Protocols.SetHTTP1(true)
	one.ForceAttemptHTTP2 = false
	one.TLSClientConfig.NextProtos = []string{"http/1.1"}
	h.http1 = &http.Client{Transport: one}
	t.Cleanup(one.CloseIdleConnections)
	return h
}

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (h *harness) do(method, path, token, body string, headers ...string) answer {
	h.t.Helper()
	return h.doWith(h.http2, h.server.URL, method, path, token, body, headers...)
}

func (h *harness) doWith(hc *http.Client, base, method, path, token, body string, headers ...string) answer {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, base+path, r)
	if err != nil {
		h.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := hc.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, b}
}

// into decodes a success.
func (a answer) into(t testing.TB, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// problem checks that the answer is a well-formed problem with a code.
func (a answer) problem(t testing.TB, status int, code string) *client.Problem {
	t.Helper()
	var p client.Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("status %d, no problem: %.300s", a.status, a.body)
	}
	if a.status != status || p.Status != status || p.Type != client.ProblemPrefix+code {
		t.Fatalf("got status %d and %s, want %d and %s", a.status, a.body, status, code)
	}
	if ct := a.header.Get("Content-Type"); ct != "application/problem+json" {
		t.Errorf("content type %q", ct)
	}
	if p.Title == "" || p.Detail == "" {
		t.Errorf("a problem without title or detail: %s", a.body)
	}
	if retry := a.header.Get("Retry-After"); (retry != "") != (status == 429 || status == 503) {
		t.Errorf("status %d with Retry-After %q", status, retry)
	}
	return &p
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s did not come about", what)
		}
	}
}

// unixSocket serves the same handler on a unix socket.
func (h *harness) unixSocket() (path string) {
	h.t.Helper()
	path = filepath.Join(h.t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		h.t.Fatal(err)
	}
	srv := NewHTTPServer(h.server.Config.Handler, nil, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	h.t.Cleanup(func() { srv.Close(); <-done })
	return path
}
