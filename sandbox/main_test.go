package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	RunIfChild()
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

var parents atomic.Int64

func testRuntime(t testing.TB, off control) *Runtime {
	t.Helper()
	needRoot(t)
	r, err := newRuntime(Config{CgroupParent: fmt.Sprintf("test-%d-%d", os.Getpid(), parents.Add(1))}, off)
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

var ids atomic.Int64

func newID() string { return fmt.Sprintf("a%d", ids.Add(1)) }

type outcome struct {
	Result
	stdout, stderr string
}

func (o outcome) String() string {
	return fmt.Sprintf("%+v\nstdout: %s\nstderr: %s", o.Result, o.stdout, o.stderr)
}

// runSpec runs a spec to its end.
func runSpec(t testing.TB, r *Runtime, spec Spec) outcome {
	t.Helper()
	if spec.ID == "" {
		spec.ID = newID()
	}
	if spec.Env == nil {
		spec.Env = []string{"PATH=/usr/bin:/bin"}
	}
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := r.Start(ctx, spec, Streams{Stdout: &out, Stderr: &errs})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	res := s.Wait()
	return outcome{res, out.String(), errs.String()}
}

// sh runs a shell script.
func sh(t testing.TB, r *Runtime, script string) outcome {
	t.Helper()
	return runSpec(t, r, Spec{Command: []string{"/bin/sh", "-c", script}})
}

func wantExit(t testing.TB, o outcome, code int) {
	t.Helper()
	if o.Reason != EndExit || o.ExitCode != code {
		t.Fatalf("want exit %d, got %s", code, o)
	}
}

func TestHello(t *testing.T) {
	r := testRuntime(t, 0)
	o := sh(t, r, "echo hello; echo oops >&2; id; cat /proc/self/status | grep -E 'Cap|NoNew|Seccomp|Uid'; ls / /dev /proc/ /etc; mount; cat /proc/self/cgroup; ip a; exit 3")
	t.Log(o)
	wantExit(t, o, 3)
	if strings.TrimSpace(o.stdout) == "" {
		t.Fatal("no output")
	}
}
