package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// flaky answers from a script: one entry per request.
type flaky struct {
	script []answerOf
	hosts  []string
	keys   []string
	times  []time.Duration // since begin
	begin  time.Time
}

type answerOf struct {
	status     int // 0: the connection fails
	retryAfter string
}

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	f.hosts = append(f.hosts, r.URL.Host)
	f.keys = append(f.keys, r.Header.Get("Idempotency-Key"))
	f.times = append(f.times, time.Since(f.begin))
	a := answerOf{status: 200}
	if len(f.script) > 0 {
		a, f.script = f.script[0], f.script[1:]
	}
	if a.status == 0 {
		return nil, errors.New("connection refused")
	}
	resp := &http.Response{StatusCode: a.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}")), Request: r}
	if a.retryAfter != "" {
		resp.Header.Set("Retry-After", a.retryAfter)
	}
	return resp, nil
}

func repeat(a answerOf, n int) []answerOf {
	var out []answerOf
	for range n {
		out = append(out, a)
	}
	return out
}

func flakyClient(t *testing.T, addrs int, script []answerOf) (*Client, *flaky) {
	t.Helper()
	f := &flaky{script: script, begin: time.Now()}
	cfg := Config{transport: f, CAPin: "unused"}
	for i := range addrs {
		cfg.Addrs = append(cfg.Addrs, fmt.Sprintf("n%d:1", i+1))
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

func TestBackoffGrowsWithJitter(t *testing.T) {
	// guards P10: retries are bounded and spread.
	synctest.Test(t, func(t *testing.T) {
		c, f := flakyClient(t, 1, repeat(answerOf{}, 100))
		_, err := c.Submit(t.Context(), TaskSpec{})
		var call *CallError
		if !errors.As(err, &call) || call.Attempts != DefaultAttempts || len(f.hosts) != DefaultAttempts || !IsUnavailable(err) {
			t.Fatalf("%d requests, %v", len(f.hosts), err)
		}
		want := DefaultMinBackoff
		for i := 1; i < len(f.times); i++ {
			d := f.times[i] - f.times[i-1]
			if lo, hi := want*3/4, want*5/4; d < lo || d > hi {
				t.Errorf("pause %d is %v, want %v to %v", i, d, lo, hi)
			}
			want = min(2*want, DefaultMaxBackoff)
		}
		for _, k := range f.keys {
			if k == "" || k != f.keys[0] {
				t.Errorf("keys %v: want one", f.keys)
			}
		}
	})
}

func TestRetryAfterIsKept(t *testing.T) {
	tests := []struct {
		name     string
		addrs    int
		script   []answerOf
		min, max time.Duration // until success
		hosts    string
	}{
		{"429 waits at the same node", 2, []answerOf{{429, "3"}}, 3 * time.Second, 6 * time.Second, "n1 n1"},
		{"429 without the header backs off", 2, []answerOf{{429, ""}}, time.Millisecond, 100 * time.Millisecond, "n1 n1"},
		{"503 goes to another node at once", 2, []answerOf{{503, "3"}}, 0, 0, "n1 n2"},
		{"503 of all waits", 2, []answerOf{{503, "3"}, {503, "3"}}, 3 * time.Second, 6 * time.Second, "n1 n2 n1"},
		{"a broken connection fails over at once", 3, []answerOf{{}, {}}, 0, 0, "n1 n2 n3"},
		{"an absurd header is bounded", 1, []answerOf{{429, "999999"}}, time.Minute, 2 * time.Minute, "n1 n1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, f := flakyClient(t, tt.addrs, tt.script)
				if _, err := c.Submit(t.Context(), TaskSpec{}); err != nil {
					t.Fatal(err)
				}
				if d := time.Since(f.begin); d < tt.min || d > tt.max {
					t.Errorf("took %v, want %v to %v", d, tt.min, tt.max)
				}
				if got := strings.ReplaceAll(strings.Join(f.hosts, " "), ":1", ""); got != tt.hosts {
					t.Errorf("asked %s, want %s", got, tt.hosts)
				}
			})
		})
	}
}

func TestWaitsEndWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := flakyClient(t, 1, repeat(answerOf{}, 100))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := c.Submit(ctx, TaskSpec{})
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("error %v: want the deadline and the last failure", err)
		}
		if d := time.Since(f.begin); d != 200*time.Millisecond {
			t.Errorf("took %v", d)
		}
		// Waiting longer than the caller can is pointless: say why at once.
		c, f = flakyClient(t, 1, []answerOf{{429, "30"}})
		ctx, cancel = context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err = c.Submit(ctx, TaskSpec{}); !IsOverloaded(err) || time.Since(f.begin) != 0 {
			t.Errorf("error %v after %v", err, time.Since(f.begin))
		}
	})
}

func TestBadAddressesAreForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := flakyClient(t, 2, []answerOf{{}, {200, ""}, {}, {200, ""}})
		for range 3 {
			if _, err := c.Cluster(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(badMemory) // of the fake clock: n1 is forgiven
		}
		// n1 fails, n2 answers and stays; then n2 fails and n1 has its turn.
		if got := strings.Join(f.hosts, " "); got != "n1:1 n2:1 n2:1 n1:1 n1:1" {
			t.Errorf("asked %s", got)
		}
	})
}

func TestRetriesAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{script: []answerOf{{}, {503, ""}}, begin: time.Now()}
		var got []RetryEvent
		c, err := New(Config{Addrs: []string{"a:1", "b:1"}, CAPin: "unused", transport: f, OnRetry: func(e RetryEvent) { got = append(got, e) }})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Cluster(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(got) != 2 || got[0].Addr != "a:1" || got[1].Addr != "b:1" || got[1].Attempt != 2 || got[1].Delay == 0 {
			t.Errorf("events %+v", got)
		}
	})
}

func TestStaleReadsAreMonotonic(t *testing.T) {
	queries := func(noMonotonic bool) []string {
		var got []string
		f := roundTrip(func(r *http.Request) (*http.Response, error) {
			got = append(got, r.URL.RawQuery)
			return &http.Response{StatusCode: 200, Header: http.Header{"Holdfast-Index": {"42"}}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
		})
		c, err := New(Config{Addrs: []string{"a:1"}, CAPin: "unused", transport: f, NoMonotonic: noMonotonic})
		if err != nil {
			t.Fatal(err)
		}
		for _, opts := range [][]CallOption{{Stale(time.Second)}, nil, {Stale(time.Second)}, {Stale(0), MinIndex(50)}, {MinIndex(7)}} {
			if _, err := c.Cluster(t.Context(), opts...); err != nil {
				t.Fatal(err)
			}
		}
		return got
	}
	first := "consistency=stale&max_age=1s"
	want := []string{first, "", first + "&min_index=42", "consistency=stale&min_index=50", "min_index=7"}
	if got := queries(false); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("queries %q, want %q", got, want)
	}
	want[2] = first
	if got := queries(true); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("queries %q, want %q", got, want)
	}
}

func TestAnswersAreTold(t *testing.T) {
	answers := []*http.Response{
		{StatusCode: 503, Header: http.Header{"Holdfast-Index": {"7"}}, Body: io.NopCloser(strings.NewReader("{}"))},
		{StatusCode: 200, Header: http.Header{"Holdfast-Index": {"9"}, "Holdfast-Age": {"1.250"}}, Body: io.NopCloser(strings.NewReader("{}"))},
	}
	var queries []string
	f := roundTrip(func(r *http.Request) (*http.Response, error) {
		queries = append(queries, r.URL.RawQuery)
		a := answers[0]
		answers = answers[1:]
		return a, nil
	})
	var got []Answer
	c, err := New(Config{Addrs: []string{"a:1", "b:1"}, CAPin: "unused", transport: f, OnAnswer: func(a Answer) { got = append(got, a) }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Cluster(t.Context(), StateHash(), Stale(0)); err != nil {
		t.Fatal(err)
	}
	want := []Answer{{"a:1", 503, 7, -1}, {"b:1", 200, 9, 1250 * time.Millisecond}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("told %v, want %v", got, want)
	}
	if queries[0] != "consistency=stale&state_hash=true" {
		t.Errorf("asked %q", queries[0])
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestParseRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{
		"": 0, "0": 0, "-5": 0, "x": 0, "NaN": 0, "2": 2 * time.Second, "0.5": 500 * time.Millisecond, "1e9": time.Minute,
		"Fri, 02 Jan 2026 03:04:15 GMT": 10 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := parseRetryAfter(in, now); got != want {
			t.Errorf("%q: %v, want %v", in, got, want)
		}
	}
}

func TestAnEmptyIDIsNoList(t *testing.T) {
	c, f := flakyClient(t, 1, nil)
	for _, id := range []string{"", ".."} {
		if _, err := c.Get(t.Context(), id); err == nil || len(f.hosts) != 0 {
			t.Errorf("ID %q: %d requests, %v", id, len(f.hosts), err)
		}
	}
	if _, err := c.Get(t.Context(), "a/b?c"); err != nil || len(f.hosts) != 1 {
		t.Errorf("an odd ID is escaped: %v", err)
	}
}
