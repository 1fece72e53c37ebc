package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	RunIfChild()
	if name := os.Getenv("HOLDFAST_PROBE"); name != "" {
		runProbe(name, os.Args[1:])
		return
	}
	if parent := os.Getenv("HOLDFAST_NODE"); parent != "" {
		runNode(parent)
		return
	}
	goleak.VerifyTestMain(m)
}

// needRoot skips where sandboxes cannot be made, but never in CI.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("CI must run the sandbox's tests as root")
	}
	t.Skip("needs root")
}

var parents, ids atomic.Int64

func newParent() string { return fmt.Sprintf("test-%d-%d", os.Getpid(), parents.Add(1)) }

func newID() string { return fmt.Sprintf("a%d", ids.Add(1)) }

func testRuntime(t testing.TB, off control) *Runtime { return poolRuntime(t, off, 0) }

// both runs a test with cold and with warm sandboxes: they must be alike.
func both(t *testing.T, test func(t *testing.T, r *Runtime)) {
	t.Run("cold", func(t *testing.T) { test(t, testRuntime(t, 0)) })
	t.Run("warm", func(t *testing.T) { test(t, poolRuntime(t, 0, 2)) })
}

func poolRuntime(t testing.TB, off control, warm int) *Runtime {
	t.Helper()
	return runtimeOf(t, Config{Warm: warm}, off)
}

func runtimeOf(t testing.TB, cfg Config, off control) *Runtime {
	t.Helper()
	needRoot(t)
	cfg.CgroupParent = newParent()
	r, err := newRuntime(cfg, off)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := r.Check(); err != nil {
		t.Fatalf("this machine cannot isolate: %v", err)
	}
	return r
}

type outcome struct {
	Result
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("%+v\nstdout: %s\nstderr: %s", o.Result, o.stdout, o.stderr)
}

func withDefaults(spec Spec) Spec {
	if spec.ID == "" {
		spec.ID = newID()
	}
	spec.Env = append([]string{"PATH=/usr/bin:/bin"}, spec.Env...)
	return spec
}

// start starts a spec with output into buffers that may be read after Wait.
func start(t testing.TB, r *Runtime, spec Spec) (*Sandbox, *bytes.Buffer, *bytes.Buffer) {
	t.Helper()
	wantWarm := awaitWarm(t, r, spec)
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	s, err := r.Start(ctx, withDefaults(spec), Streams{Stdout: &out, Stderr: &errs})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	if wantWarm != s.warm {
		t.Errorf("sandbox is warm: %t, want %t", s.warm, wantWarm)
	}
	return s, &out, &errs
}

// awaitWarm waits for a warm sandbox, if the spec is to get one.
func awaitWarm(t testing.TB, r *Runtime, spec Spec) bool {
	if r.warmSize == 0 {
		return false
	}
	if !suits(spec) {
		return false
	}
	p := r.warm()
	p.wake()
	eventually(t, "a warm sandbox is ready", func() bool { return len(p.cells) > 0 })
	return true
}

// runSpec runs a spec to its end.
func runSpec(t testing.TB, r *Runtime, spec Spec) outcome {
	t.Helper()
	s, out, errs := start(t, r, spec)
	return outcome{s.Wait(), out.String(), errs.String()}
}

func shell(script string) Spec { return Spec{Command: []string{"/bin/sh", "-c", script}} }

// probe runs one of the functions of probe_test.go inside a sandbox: this very
// test program is granted read-only.
func probe(t testing.TB, r *Runtime, spec Spec, name string, args ...string) outcome {
	t.Helper()
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		t.Fatal(err)
	}
	spec.Mounts = append([]Mount{{Source: self, Target: "/probe"}}, spec.Mounts...)
	spec.Command = append([]string{"/probe"}, args...)
	spec.Env = append(spec.Env, "HOLDFAST_PROBE="+name, "HOME=/tmp", "GORACE=atexit_sleep_ms=0")
	return runSpec(t, r, spec)
}

func wantExit(t testing.TB, o outcome, code int) {
	t.Helper()
	if o.Reason != EndExit || o.ExitCode != code {
		t.Fatalf("want exit %d, got %s", code, o)
	}
}

func wantReason(t testing.TB, o outcome, why EndReason) {
	t.Helper()
	if o.Reason != why {
		t.Fatalf("want %s, got %s", why, o)
	}
}

// lines returns the output's lines as a set.
func lines(s string) map[string]bool {
	set := map[string]bool{}
	for l := range strings.Lines(s) {
		set[strings.TrimSpace(l)] = true
	}
	return set
}

// eventually polls until ok, for states of the kernel that nothing announces.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-tick.C
	}
}
