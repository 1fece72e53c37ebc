package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/client"
	"holdfast/client/clienttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, n int) *clienttest.Server {
	t.Helper()
	s, err := clienttest.Start(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// quick makes retries short: tests of the waits themselves use a fake clock.
func quick(cfg client.Config) client.Config {
	cfg.Retry = client.Retries{Attempts: 6, MinBackoff: time.Millisecond, MaxBackoff: 2 * time.Millisecond}
	return cfg
}

func connect(t *testing.T, cfg client.Config) *client.Client {
	t.Helper()
	c, err := client.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func echo(text string) client.TaskSpec { return client.TaskSpec{Command: []string{"echo", text}} }

func TestSubmitAndRead(t *testing.T) {
	s := start(t, 1)
	c := connect(t, s.Config())
	ctx := t.Context()
	task, err := c.Submit(ctx, echo("hello"))
	if err != nil {
		t.Fatal(err)
	}
	task, err = c.Wait(ctx, task.ID)
	if err != nil || task.State != "succeeded" || *task.Result.ExitCode != 0 {
		t.Fatalf("task %+v, %v", task, err)
	}
	out, err := c.Output(ctx, task.ID, client.OutputOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if b, err := io.ReadAll(out); string(b) != "hello\n" || err != nil {
		t.Fatalf("output %q, %v", b, err)
	}
	if c.LastIndex() < task.Index || task.Index == 0 {
		t.Errorf("last index %d, task's %d", c.LastIndex(), task.Index)
	}
}

func TestFailoverIsStickyAndReplaysOneKey(t *testing.T) {
	// guards P1: a submission whose answer was lost takes effect once.
	s := start(t, 3)
	s.Inject(clienttest.Fault{Node: 1, Path: "/v1/tasks", Times: 1, AfterApply: true})
	s.Inject(clienttest.Fault{Node: 2, Path: "/v1/tasks", Times: 1, Status: 503, RetryAfter: "1"})
	c := connect(t, quick(s.Config()))
	begin := time.Now()
	if _, err := c.Submit(t.Context(), echo("once")); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d > 900*time.Millisecond {
		t.Errorf("failover waited %v although another node was there", d)
	}
	if s.Tasks() != 1 {
		t.Errorf("%d tasks were made, want 1", s.Tasks())
	}
	for range 3 {
		if _, err := c.Get(t.Context(), "t1"); err != nil {
			t.Fatal(err)
		}
	}
	reqs := s.Requests()
	var nodes []int
	for _, r := range reqs {
		nodes = append(nodes, r.Node)
		if r.Method == "POST" && (r.IdempotencyKey == "" || r.IdempotencyKey != reqs[0].IdempotencyKey) {
			t.Errorf("key %q, want that of the first try, %q", r.IdempotencyKey, reqs[0].IdempotencyKey)
		}
	}
	if fmt.Sprint(nodes) != "[1 2 3 3 3 3]" {
		t.Errorf("requests went to nodes %v, want 1, 2, then always 3", nodes)
	}
}

func TestKeysDifferBetweenCalls(t *testing.T) {
	s := start(t, 1)
	c := connect(t, s.Config())
	for range 2 {
		if _, err := c.Submit(t.Context(), echo("x")); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := c.Submit(t.Context(), echo("x"), client.IdempotencyKey("mine")); err != nil {
			t.Fatal(err)
		}
	}
	if s.Tasks() != 3 {
		t.Errorf("%d tasks, want 3: two calls, and one key twice", s.Tasks())
	}
	if _, err := c.Submit(t.Context(), echo("x"), client.IdempotencyKey("a b")); err == nil {
		t.Error("a key with a space was sent")
	}
	if _, err := c.Submit(t.Context(), echo("x"), client.IdempotencyKey(strings.Repeat("k", 129))); err == nil {
		t.Error("a key of 129 bytes was sent")
	}
}

func TestDefiniteRefusalsAreNotRepeated(t *testing.T) {
	s := start(t, 2)
	c := connect(t, quick(s.Config()))
	tests := []struct {
		name string
		call func(context.Context) error
		is   func(error) bool
	}{
		{"not found", func(ctx context.Context) error { _, err := c.Get(ctx, "t9"); return err }, client.IsNotFound},
		{"invalid", func(ctx context.Context) error { _, err := c.Submit(ctx, client.TaskSpec{}); return err }, client.IsInvalid},
		{"forbidden", func(ctx context.Context) error {
			s.Inject(clienttest.Fault{Times: 1, Status: 403})
			return c.Transfer(ctx)
		}, client.IsForbidden},
		{"500", func(ctx context.Context) error {
			s.Inject(clienttest.Fault{Times: 1, Status: 500})
			return c.Transfer(ctx)
		}, func(err error) bool { var p *client.Problem; return errors.As(err, &p) && p.Status == 500 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Requests())
			err := tt.call(t.Context())
			if !tt.is(err) {
				t.Errorf("error %v is of another kind", err)
			}
			if client.IsUnavailable(err) {
				t.Error("a refusal counts as unavailable")
			}
			if n := len(s.Requests()) - before; n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

func TestAttemptsAreBounded(t *testing.T) {
	s := start(t, 2)
	s.Inject(clienttest.Fault{Times: 1000, Status: 503})
	c := connect(t, quick(s.Config()))
	_, err := c.Cluster(t.Context())
	if !client.IsUnavailable(err) || !client.HasCode(err, client.CodeUnavailable) {
		t.Fatalf("error %v", err)
	}
	if n := len(s.Requests()); n != 6 {
		t.Errorf("%d requests, want 6", n)
	}
	for _, a := range s.Addrs() {
		if !strings.Contains(err.Error(), a) {
			t.Errorf("error does not name %s: %v", a, err)
		}
	}
}

func TestTrust(t *testing.T) {
	s, other := start(t, 1), start(t, 1)
	cfg := s.Config()
	tests := []struct {
		name string
		edit func(*client.Config)
		ok   bool
	}{
		{"pin", func(*client.Config) {}, true},
		{"certificate", func(c *client.Config) { c.CAPin, c.CACert = "", s.CA.PEM() }, true},
		{"both", func(c *client.Config) { c.CACert = s.CA.PEM() }, true},
		{"another cluster's pin", func(c *client.Config) { c.CAPin = other.CA.Pin() }, false},
		{"another cluster's certificate", func(c *client.Config) { c.CAPin, c.CACert = "", other.CA.PEM() }, false},
		{"right certificate, wrong pin", func(c *client.Config) { c.CAPin, c.CACert = other.CA.Pin(), s.CA.PEM() }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := quick(cfg)
			tt.edit(&cfg)
			c := connect(t, cfg)
			before := len(s.Requests())
			_, err := c.Cluster(t.Context())
			if (err == nil) != tt.ok || (err != nil && !errors.Is(err, client.ErrUntrusted)) {
				t.Errorf("error %v, want success %v", err, tt.ok)
			}
			if !tt.ok && len(s.Requests()) != before {
				t.Error("the token was sent to an untrusted server")
			}
		})
	}
}

func TestConfigIsChecked(t *testing.T) {
	pin := "sha256:" + strings.Repeat("ab", 32)
	tests := map[string]client.Config{
		"no address":   {CAPin: pin},
		"no anchor":    {Addrs: []string{"h:1"}},
		"bad pin":      {Addrs: []string{"h:1"}, CAPin: "sha256:12"},
		"bad PEM":      {Addrs: []string{"h:1"}, CACert: []byte("x")},
		"http":         {Addrs: []string{"http://h:1"}, CAPin: pin},
		"no port":      {Addrs: []string{"h"}, CAPin: pin},
		"path":         {Addrs: []string{"https://h:1/x"}, CAPin: pin},
		"both":         {Addrs: []string{"h:1"}, UnixSocket: "/s", CAPin: pin},
		"negative":     {Addrs: []string{"h:1"}, CAPin: pin, Timeout: -1},
		"smuggled URL": {Addrs: []string{"user@h:1"}, CAPin: pin},
	}
	for name, cfg := range tests {
		if c, err := client.New(cfg); !errors.Is(err, client.ErrConfig) {
			t.Errorf("%s: client %v, error %v", name, c, err)
		}
	}
}
