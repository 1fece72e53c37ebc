package main

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"holdfast/chaos/bench/figures"
	"holdfast/client"
)

// TestMain is also the program that measures inside a namespace.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		args string
		ok   bool
		want func(options) bool
	}{
		{"", true, func(o options) bool {
			return o.repeat == 5 && o.kills == 100 && o.soak == 30*time.Minute && o.run.MatchString("soak")
		}},
		{"-quick", true, func(o options) bool { return o.repeat == 1 && o.kills == 2 && o.soak == 5*time.Second }},
		{"-quick -kills 7", true, func(o options) bool { return o.kills == 7 && o.cuts == 1 }},
		{"-run ^dev$", true, func(o options) bool { return o.run.MatchString("dev") && !o.run.MatchString("soak") }},
		{"-run (", false, nil},
		{"-repeat 0", false, nil},
		{"everything", false, nil},
	} {
		o, err := parse(strings.Fields(c.args), io.Discard)
		if (err == nil) != c.ok || c.ok && !c.want(o) {
			t.Errorf("%q: %+v, %v", c.args, o, err)
		}
	}
	for name, value := range quick {
		if _, err := parse([]string{"-" + name, value}, io.Discard); err != nil {
			t.Errorf("-quick stands for -%s %s: %v", name, value, err)
		}
	}
}

func TestPayloadHasItsSize(t *testing.T) {
	p, err := newPayload()
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := p.encode(2)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range encoded {
		spec, err := client.DecodeSpec(e)
		if err != nil || len(e) != commandBytes {
			t.Fatalf("%d bytes, %+v, %v", len(e), spec, err)
		}
		names[spec.Name] = true
	}
	specs, err := p.specs(2)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		names[s.Name] = true
		if e, err := client.EncodeSpec(s); err != nil || len(e) != commandBytes {
			t.Errorf("%d bytes, %v", len(e), err)
		}
	}
	if len(names) != 4 {
		t.Errorf("the payload repeats itself: %v", names)
	}
}

func TestMetricsOf(t *testing.T) {
	out := []byte(`goos: linux
BenchmarkCommits256SlowDisk-2   	   20000	     65328 ns/op	     15307 commits/s
BenchmarkCommits256-2           	   50000	     28584 ns/op	     34984 commits/s	        28.05 cpu-us/commit
PASS
`)
	for _, c := range []struct {
		name, unit string
		want       float64
	}{
		{"BenchmarkCommits256", "commits/s", 34984}, {"BenchmarkCommits256", "cpu-us/commit", 28.05},
		{"BenchmarkCommits256SlowDisk", "commits/s", 15307},
	} {
		if m, err := metricsOf(out, c.name); err != nil || m[c.unit] != c.want {
			t.Errorf("%s: %v, %v; want %v %s", c.name, m, err, c.want, c.unit)
		}
	}
	for _, name := range []string{"BenchmarkCommits", "BenchmarkCommits25", "BenchmarkLife"} {
		if m, err := metricsOf(out, name); err == nil {
			t.Errorf("%s was found: %v", name, m)
		}
	}
	if _, err := metricsOf([]byte("BenchmarkX-2  10  what ns/op"), "BenchmarkX"); err == nil {
		t.Error("a word was taken for a number")
	}
}

func TestCounters(t *testing.T) {
	before := parseMetrics(`# HELP x_total Help.
# TYPE x_total counter
x_total{cause="timer"} 1
x_total{cause="evidence"} 2
y 1e+06
z no number
`)
	if len(before) != 3 || before["y"] != 1e6 || before[`x_total{cause="evidence"}`] != 2 {
		t.Fatalf("%v", before)
	}
	after := samples{`cause="timer"`: 1, `cause="evidence"`: 4}
	added := after.since(samples{`cause="timer"`: 1, `cause="evidence"`: 2})
	if added.sum() != 2 || added.String() != "2 cause=evidence" {
		t.Errorf("%v", added)
	}
}

func TestTallyKnowsAdmissionControl(t *testing.T) {
	unavailable := &client.Problem{Type: client.ProblemPrefix + client.CodeUnavailable, Title: "No leader", Status: http.StatusServiceUnavailable}
	full := &client.Problem{Type: client.ProblemPrefix + client.CodeQueueFull, Title: "Full", Status: http.StatusTooManyRequests}
	c := &tally{}
	for _, err := range []error{nil, unavailable, &client.CallError{Op: "submit", Err: full}, errors.New("connection reset")} {
		c.count(err)
	}
	if c.done != 1 || c.unavailable != 1 || c.refused != 1 || c.failed != 1 {
		t.Errorf("%+v", c)
	}
	if got := strings.Join(c.examples(), "\n"); !strings.Contains(got, "503 No leader") || !strings.Contains(got, "connection reset") {
		t.Errorf("examples: %s", got)
	}
}

func TestMissedTargetsAreNamed(t *testing.T) {
	b := &bench{}
	b.set.Define(
		figures.Figure{ID: "good", What: "good", Bound: figures.AtLeast, Target: 1},
		figures.Figure{ID: "bad", What: "bad", Bound: figures.AtLeast, Target: 1},
		figures.Figure{ID: "never", What: "never", Bound: figures.AtLeast, Target: 1},
		figures.Figure{ID: "note", What: "note"},
	)
	if err := errors.Join(b.set.Add("good", 1), b.set.Add("bad", 0.9), b.set.Add("note", 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.missed(); err == nil || !strings.Contains(err.Error(), "bad; never") || strings.Contains(err.Error(), "good") {
		t.Errorf("%v", err)
	}
}

// A whole run without a suite: the results are written and printed.
func TestRunOfNothing(t *testing.T) {
	dir := t.TempDir()
	var out strings.Builder
	err := execute(t.Context(), []string{"-run", "^none$", "-dir", dir, "-out", dir + "/r.json", "-binary", dir + "/none"}, &out, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Machine: ", "128 bytes; fsync on", "| what | target |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
}

func TestLocalReadsReadiness(t *testing.T) {
	status := http.StatusServiceUnavailable
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	defer s.Close()
	// The unix socket's dialler aside, it is one HTTP client.
	l := &local{&http.Client{Transport: rewrite{s.URL, &http.Transport{DisableKeepAlives: true}}}}
	if l.ready(context.Background()) {
		t.Error("a node that answers 503 is ready")
	}
	status = http.StatusOK
	if !l.ready(context.Background()) {
		t.Error("a node that answers 200 is not ready")
	}
}

type rewrite struct {
	to   string
	next http.RoundTripper
}

func (r rewrite) RoundTrip(q *http.Request) (*http.Response, error) {
	q.URL.Host = strings.TrimPrefix(r.to, "http://")
	return r.next.RoundTrip(q)
}
