package api

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/client"
)

// guards P10
func TestRates(t *testing.T) {
	now := time.Now()
	h := newHarness(t, func(c *Config) {
		c.Limits.RatePerSecond, c.Limits.Burst = 1, 1000
		c.Now = func() time.Time { return now }
	})
	batch := `{"tasks":[` + strings.Repeat(echo+",", 997) + echo + `]}`
	if a := h.do("POST", "/v1/tasks/batch", "ann:submitter", batch); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for range 2 {
		if a := h.do("GET", "/v1/cluster", "ann:viewer", ""); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	a := h.do("GET", "/v1/cluster", "ann:viewer", "")
	a.problem(t, 429, client.CodeRateLimited)
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("retry after %q", a.header.Get("Retry-After"))
	}
	if a := h.do("GET", "/v1/cluster", "bob:viewer", ""); a.status != 200 {
		t.Errorf("another principal: %d %s", a.status, a.body)
	}
}

// guards P10
func TestInFlight(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.InFlight, c.Limits.LongInFlight = 1, 1 })
	hold := make(chan struct{})
	h.do("POST", "/v1/tasks", "ann:submitter", echo)
	h.backend.mu.Lock()
	h.backend.hold = hold
	h.backend.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() {
		for h.do("POST", "/v1/tasks", "ann:submitter", echo).status == 429 { // the probe below was there first
		}
	})
	eventually(t, "the first request", func() bool {
		a := h.do("GET", "/v1/cluster", "ann:viewer", "")
		if a.status == 200 {
			return false
		}
		a.problem(t, 429, client.CodeOverloaded)
		return true
	})
	close(hold)
	wg.Wait()
	// A long request does not take the place of a short one, but of a long one.
	wg.Go(func() { h.do("GET", "/v1/tasks/t1/wait?timeout=1m", "ann:viewer", "") })
	eventually(t, "the wait", func() bool { return h.backend.watching(1) == 1 })
	if a := h.do("GET", "/v1/cluster", "ann:viewer", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	h.do("GET", "/v1/tasks/t1/wait?timeout=1m", "ann:viewer", "").problem(t, 429, client.CodeOverloaded)
	h.do("POST", "/v1/tasks/t1/cancel", "ann:operator", "")
	wg.Wait()
	if a := h.do("GET", "/v1/tasks/t1/wait", "ann:viewer", ""); a.status != 200 {
		t.Errorf("after it: %d %s", a.status, a.body)
	}
}

// guards P10: a client that trickles its body is let go.
func TestSlowBody(t *testing.T) {
	h := newHarness(t, func(c *Config) { c.Limits.BodyTimeout = 50 * time.Millisecond })
	for _, path := range []string{"/v1/tasks", "/v1/nothing", "/v1/tasks/t1/cancel"} {
		conn, err := tls.Dial("tcp", h.server.Listener.Addr().String(), h.http1.Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann:submitter\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", path)
		br := bufio.NewReader(conn)
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{"/v1/tasks": 408}[path]; want != 0 && resp.StatusCode != want {
			t.Errorf("%s: status %d", path, resp.StatusCode)
		}
		// The rest of the body never comes: the connection ends, by itself.
		if _, err := io.Copy(io.Discard, br); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestHeadersAreBounded(t *testing.T) {
	h := newHarness(t, nil)
	a := h.doWith(h.http1, h.server.URL, "GET", "/v1/cluster", "ann:viewer", "", "X-Long", strings.Repeat("x", 64<<10))
	if a.status != 431 {
		t.Errorf("status %d", a.status)
	}
}

func BenchmarkSubmit(b *testing.B) {
	h := newHarness(b, nil)
	handler := h.server.Config.Handler
	b.ReportAllocs()
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), "POST", "/v1/tasks", strings.NewReader(`{"name":"bench","command":["echo","hello"],"labels":{"a":"b"}}`))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer ann:submitter")
		r.Header.Set("Content-Type", "application/json")
		w := &discard{header: http.Header{}}
		handler.ServeHTTP(w, r)
		if w.status != 201 {
			b.Fatal(w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(status int)      { d.status = status }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
