package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"holdfast/client"
)

func countJSON(s string) (int, error) {
	d := json.NewDecoder(strings.NewReader(s))
	for n := 0; ; n++ {
		var v any
		if err := d.Decode(&v); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

func TestParseMount(t *testing.T) {
	for in, want := range map[string]client.Mount{
		"/a":       {Source: "/a"},
		"/a:ro":    {Source: "/a"},
		"/a:rw":    {Source: "/a", Writable: true},
		"/a:/b":    {Source: "/a", Target: "/b"},
		"/a:/b:rw": {Source: "/a", Target: "/b", Writable: true},
	} {
		if got, err := parseMount(in); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a", "/a:b", "/a:/b:/c", "/a:/b:rx", ":/b", "/a:"} {
		if got, err := parseMount(in); err == nil {
			t.Errorf("%q was taken as %+v", in, got)
		}
	}
}

func TestParseConstraint(t *testing.T) {
	for in, want := range map[string]client.Constraint{
		"zone=a":    {Key: "zone", Op: "in", Values: []string{"a"}},
		"zone=a,b":  {Key: "zone", Op: "in", Values: []string{"a", "b"}},
		"zone!=a,b": {Key: "zone", Op: "not_in", Values: []string{"a", "b"}},
		"gpu":       {Key: "gpu", Op: "exists"},
		"!gpu":      {Key: "gpu", Op: "not_exists"},
	} {
		if got, err := parseConstraint(in); err != nil || cmp.Diff(got, want) != "" {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "=a", "!", "zone=", "!=a"} {
		if got, err := parseConstraint(in); err == nil {
			t.Errorf("%q was taken as %+v", in, got)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{
		"": 0, "1": 1, "100B": 100, "1KiB": 1024, "1k": -1, "1.5GiB": 3 << 29, "2M": 2 << 20, "3MB": 3e6, "1 GiB": 1 << 30,
		"-1": -1, "0": -1, "x": -1, "GiB": -1, "1e30": -1, "NaN": -1, "9999999TiB": -1,
	} {
		got, err := parseSize(in)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
}

func TestTaskCode(t *testing.T) {
	code := func(n int) *client.TaskResult { return &client.TaskResult{Reason: "exit", ExitCode: &n} }
	tests := []struct {
		state string
		r     *client.TaskResult
		want  int
	}{
		{"succeeded", code(0), 0},
		{"failed", code(7), 7},
		{"failed", code(256), 0},
		{"failed", &client.TaskResult{Reason: "signal", Signal: "SIGSEGV"}, 139},
		{"failed", &client.TaskResult{Reason: "signal", Signal: "TERM"}, 143},
		{"failed", &client.TaskResult{Reason: "signal", Signal: "WHAT"}, 125},
		{"failed", &client.TaskResult{Reason: "timeout"}, 124},
		{"failed", &client.TaskResult{Reason: "out_of_memory"}, 137},
		{"failed", &client.TaskResult{Reason: "lost"}, 125},
		{"failed", &client.TaskResult{Reason: "shutdown"}, 125},
		{"failed", &client.TaskResult{Reason: "start_failed"}, 127},
		{"cancelled", nil, 130},
		{"cancelled", &client.TaskResult{Reason: "cancelled"}, 130},
		{"expired", nil, 124},
	}
	for _, tt := range tests {
		if got := taskCode(&client.Task{State: tt.state, Result: tt.r}); got != tt.want && !(tt.r != nil && tt.r.ExitCode != nil && *tt.r.ExitCode == 256 && got == 1) {
			t.Errorf("%s %+v: %d, want %d", tt.state, tt.r, got, tt.want)
		}
	}
}

func TestExitCodesOfErrors(t *testing.T) {
	p := func(status int) error { return &client.Problem{Title: "x", Status: status} }
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	tests := []struct {
		ctx  context.Context
		err  error
		want int
	}{
		{t.Context(), p(404), 3}, {t.Context(), p(401), 4}, {t.Context(), p(403), 4}, {t.Context(), p(409), 6},
		{t.Context(), p(422), 2}, {t.Context(), p(413), 2}, {t.Context(), p(429), 5}, {t.Context(), p(503), 5}, {t.Context(), p(500), 1},
		{t.Context(), client.ErrUntrusted, 4}, {t.Context(), &client.CallError{Err: io.EOF}, 5}, {t.Context(), io.EOF, 1},
		{t.Context(), usagef("x"), 2}, {ended, io.EOF, 130}, {ended, silently(9), 9},
	}
	for _, tt := range tests {
		if got := exitCode(tt.ctx, tt.err); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.err, got, tt.want)
		}
	}
}

func TestTerminalOutput(t *testing.T) {
	var out bytes.Buffer
	a := &app{out: &out, err: &out, outTTY: true, errTTY: true, env: func(string) (string, bool) { return "", false }}
	tb := a.table("ID", "STATE")
	tb.row("t1", "failed")
	tb.row("t\x1b[2J2", "queued")
	tb.print(&out)
	want := "\x1b[1mID\x1b[0m      \x1b[1mSTATE\x1b[0m\nt1      \x1b[31mfailed\x1b[0m\nt\ufffd[2J2  queued\n"
	if got := out.String(); got != want {
		t.Errorf("table\n%q, want\n%q", got, want)
	}
	a.env = func(k string) (string, bool) { return "1", k == "NO_COLOR" }
	if got := a.paint(true, red, "x"); got != "x" {
		t.Errorf("NO_COLOR: %q", got)
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(0, 0)
	a := &app{err: &out}
	for _, tty := range []bool{false, true} {
		out.Reset()
		a.errTTY = tty
		p := a.progress("submitted")
		p.now = func() time.Time { return now }
		p.begin = now
		now = now.Add(time.Second)
		p.bar(5, 1, 10)
		p.bar(6, 1, 10) // too soon
		p.clear()
		want := ""
		if tty {
			want = "\r\x1b[Ksubmitted [===============               ] 5/10, 1 refused  5/s\r\x1b[K"
		}
		if got := out.String(); got != want {
			t.Errorf("terminal %v: %q, want %q", tty, got, want)
		}
	}
}

func TestInOrder(t *testing.T) {
	var got []int
	o := &inOrder{print: func(s *client.StreamAnswer) error { got = append(got, s.Line); return nil }}
	for _, n := range []int{3, 1, 2, 5, 4} {
		if err := o.add(&client.StreamAnswer{Line: n}); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(got, []int{1, 2, 3, 4, 5}); d != "" || len(o.waiting) != 0 {
		t.Error(d)
	}
}

func TestAnsweringFromAProfileKeepsItsToken(t *testing.T) {
	// guards P8: a current profile's token must not go to another address.
	env := map[string]string{"HOLDFAST_ADDR": "elsewhere:1", "XDG_CONFIG_HOME": t.TempDir()}
	a := &app{env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }, dotenv: func() (map[string]string, error) { return nil, nil }}
	if err := a.saveProfiles(&profiles{Current: "p", Profiles: map[string]connection{"p": {Addrs: []string{"home:1"}, Token: "secret", CAPin: "pin"}}}); err != nil {
		t.Fatal(err)
	}
	r, err := a.resolve()
	if err != nil || r.Token != "" || r.CAPin != "" || r.Addrs[0] != "elsewhere:1" {
		t.Errorf("%+v, %v", r, err)
	}
	delete(env, "HOLDFAST_ADDR")
	if r, err = a.resolve(); err != nil || r.Token != "secret" || r.Addrs[0] != "home:1" {
		t.Errorf("%+v, %v", r, err)
	}
	env["HOLDFAST_PROFILE"], env["HOLDFAST_ADDR"] = "p", "other:1" // both on purpose
	if r, err = a.resolve(); err != nil || r.Token != "secret" || r.Addrs[0] != "other:1" {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzSpecs(f *testing.F) {
	f.Add([]byte(`{"command":["true"]}`), false)
	f.Add([]byte(`[{"command":["true"]},{"command":["false"]}]`), false)
	f.Add([]byte("command: [true]\n---\n- command: [a]\n"), true)
	f.Fuzz(func(t *testing.T, in []byte, isYAML bool) {
		var next specReader
		if isYAML {
			var err error
			if next, err = yamlSpecs("x", bytes.NewReader(in)); err != nil {
				return
			}
		} else {
			next = jsonSpecs("x", bytes.NewReader(in))
		}
		for range len(in) + 2 {
			if _, err := next(); err != nil {
				return
			}
		}
		t.Fatal("more specs than bytes")
	})
}
