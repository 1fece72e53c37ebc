package sandbox

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestExitAndOutput(t *testing.T) { both(t, testExitAndOutput) }

func testExitAndOutput(t *testing.T, r *Runtime) {
	spec := shell(`echo out; echo err >&2; echo more > /dev/stdout; cat; pwd; echo "$A"; exit 7`)
	spec.Stdin, spec.Env, spec.WorkDir = []byte("in\n"), []string{"A=b c"}, "/dev/shm"
	o := runSpec(t, r, spec)
	wantExit(t, o, 7)
	if o.stdout != "out\nmore\nin\n/dev/shm\nb c\n" || o.stderr != "err\n" || o.Signal != "" || o.Message != "" {
		t.Errorf("%s", o)
	}
	if o.Usage.Wall <= 0 || o.Usage.CPU <= 0 || o.Usage.MemoryPeakBytes <= 0 {
		t.Errorf("usage %+v", o.Usage)
	}
}

func TestNothingIsInherited(t *testing.T) {
	t.Setenv("SECRET", "x")
	r := testRuntime(t, 0)
	o := runSpec(t, r, Spec{Command: []string{"env"}})
	if o.stdout != "PATH=/usr/bin:/bin\n" {
		t.Errorf("%s", o)
	}
	o = runSpec(t, r, shell("cat; umask; trap; ulimit -c"))
	if o.stdout != "0022\n1\n" && o.stdout != "0022\n0\n" {
		t.Errorf("%s", o)
	}
}

// With nobody listening the streams are there all the same.
func TestNoStreams(t *testing.T) { both(t, testNoStreams) }

func testNoStreams(t *testing.T, r *Runtime) {
	s, err := r.Start(t.Context(), withDefaults(shell("cat; echo x && echo y >&2 && echo z > /dev/stdout && echo u > /dev/null && cat /dev/stdin")), Streams{})
	if err != nil {
		t.Fatal(err)
	}
	wantExit(t, outcome{Result: s.Wait()}, 0)
}

func TestSignalledCommand(t *testing.T) {
	o := runSpec(t, testRuntime(t, 0), shell("kill -SEGV $$"))
	if o.Reason != EndSignal || o.Signal != "SIGSEGV" || o.ExitCode != -1 {
		t.Errorf("%s", o)
	}
}

func TestStartFailures(t *testing.T) { both(t, testStartFailures) }

func testStartFailures(t *testing.T, r *Runtime) {
	for _, c := range []struct {
		spec Spec
		want string
	}{
		{Spec{Command: []string{"no-such-program"}}, "not found"},
		{Spec{Command: []string{"/no/such/program"}}, "not found"},
		{Spec{Command: []string{"/etc/passwd"}}, "permission denied"},
		{Spec{Command: []string{"/usr"}}, "permission denied"},
		{Spec{Command: []string{"true"}, WorkDir: "/none"}, "work folder"},
		{withMount(Spec{Command: []string{"/script"}}, executable(t, "no interpreter line"), "/script", false), "exec format"},
		{withMount(Spec{Command: []string{"/script"}}, executable(t, "#!/no/such/interpreter\n"), "/script", false), "interpreter"},
	} {
		o := runSpec(t, r, c.spec)
		if o.Reason != EndStartFailed || !strings.Contains(o.Message, c.want) || o.ExitCode != -1 {
			t.Errorf("%v: want %q, got %s", c.spec.Command, c.want, o)
		}
	}
}

func executable(t *testing.T, text string) string {
	name := hostFile(t, text)
	if err := os.Chmod(name, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// A daemon that holds stdout open ends with its sandbox.
func TestDaemonDies(t *testing.T) { both(t, testDaemonDies) }

func testDaemonDies(t *testing.T, r *Runtime) {
	s, out, _ := start(t, r, shell("(setsid sh -c 'sleep 1000 & sleep 1000' &) ; sleep 1000 & echo up; read x < /dev/zero"))
	var pids []int
	eventually(t, "all five run", func() bool { pids = groupPIDs(t, s); return len(pids) >= 6 })
	s.Stop(EndCancelled, time.Minute) // the shell alone has no handler: it dies, and all with it
	res := s.Wait()
	wantReason(t, outcome{res, out.String(), ""}, EndCancelled)
	wantGone(t, pids)
	o := runSpec(t, r, shell("(setsid sleep 1000 &); echo done"))
	wantExit(t, o, 0)
	if o.stdout != "done\n" {
		t.Errorf("%s", o)
	}
}

func TestStop(t *testing.T) { both(t, testStop) }

func testStop(t *testing.T, r *Runtime) {
	up := func(script string) (*Sandbox, *io.PipeReader) {
		pr, pw := io.Pipe()
		s, err := r.Start(t.Context(), withDefaults(shell(script)), Streams{Stdout: pw})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(pr, make([]byte, 3)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, pr) }()
		t.Cleanup(func() { pr.Close() })
		return s, pr
	}
	s, _ := up("trap 'exit 9' TERM; echo up; while :; do sleep 0.01; done")
	s.Stop(EndShutdown, time.Minute)
	if res := s.Wait(); res.Reason != EndShutdown || res.ExitCode != 9 {
		t.Errorf("graceful: %+v", res)
	}
	s, _ = up("trap '' TERM; echo up; while :; do sleep 0.01; done")
	s.Stop(EndShutdown, 100*time.Millisecond)
	if res := s.Wait(); res.Reason != EndShutdown || res.Signal != "SIGKILL" {
		t.Errorf("stubborn: %+v", res)
	}
	s, _ = up("echo up; sleep 1000")
	s.Kill(EndLost)
	s.Kill(EndCancelled)
	if res := s.Wait(); res.Reason != EndLost || res.Signal != "SIGKILL" {
		t.Errorf("killed: %+v", res)
	}
	s.Kill(EndTimeout) // too late: nothing happens
	s.Stop(EndTimeout, time.Second)
	if res := s.Wait(); res.Reason != EndLost {
		t.Errorf("killed after the end: %+v", res)
	}
}

func TestContextEndsSandbox(t *testing.T) {
	r := testRuntime(t, 0)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := r.Start(ctx, withDefaults(shell("sleep 1000")), Streams{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	wantReason(t, outcome{Result: s.Wait()}, EndCancelled)
	if _, err := r.Start(ctx, withDefaults(shell("true")), Streams{}); !errors.Is(err, context.Canceled) {
		t.Errorf("start with an ended context: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	s, err = r.Start(ctx, withDefaults(shell("sleep 1000")), Streams{})
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, outcome{Result: s.Wait()}, EndTimeout)
}

// blocker accepts nothing until it is released, and counts who asked.
type blocker struct {
	release chan struct{}
	entered chan struct{} // gets one element per call
}

func (b blocker) Write(p []byte) (int, error) {
	b.entered <- struct{}{}
	<-b.release
	return len(p), nil
}

type failer struct{}

func (failer) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// guards P10
func TestFloodIsHeldByTheWriter(t *testing.T) {
	r := testRuntime(t, 0)
	b := blocker{make(chan struct{}), make(chan struct{}, 100)}
	s, err := r.Start(t.Context(), withDefaults(shell("yes")), Streams{Stdout: b})
	if err != nil {
		t.Fatal(err)
	}
	<-b.entered
	s.Kill(EndCancelled)
	res := s.Wait() // with the writer still blocked
	if res.Reason != EndCancelled || !strings.Contains(res.Message, "stdout was cut off") {
		t.Errorf("%+v", res)
	}
	if len(b.entered) > 0 {
		t.Error("more was read than the writer took")
	}
	close(b.release)
}

func TestFailingWriterDoesNotHang(t *testing.T) {
	r := testRuntime(t, 0)
	s, err := r.Start(t.Context(), withDefaults(shell("dd if=/dev/zero bs=64k count=50 2>/dev/null; exit 4")), Streams{Stdout: failer{}})
	if err != nil {
		t.Fatal(err)
	}
	if res := s.Wait(); res.ExitCode != 4 || !strings.Contains(res.Message, "stdout was cut off: disk full") {
		t.Errorf("%+v", res)
	}
}

func TestLargeOutputIsWhole(t *testing.T) {
	r := testRuntime(t, 0)
	o := runSpec(t, r, shell("head -c 5000000 /dev/zero; head -c 3000000 /dev/zero >&2"))
	if len(o.stdout) != 5000000 || len(o.stderr) != 3000000 {
		t.Errorf("%d and %d bytes", len(o.stdout), len(o.stderr))
	}
}

func TestOneWriterForBoth(t *testing.T) {
	r := testRuntime(t, 0)
	var both bytes.Buffer // not safe for two writers: -race would tell
	s, err := r.Start(t.Context(), withDefaults(shell("for i in 1 2 3; do echo o$i; echo e$i >&2; done")), Streams{Stdout: &both, Stderr: &both})
	if err != nil {
		t.Fatal(err)
	}
	s.Wait()
	if both.String() != "o1\ne1\no2\ne2\no3\ne3\n" {
		t.Errorf("%q", both.String())
	}
}

func TestIDsAreUnique(t *testing.T) {
	r := testRuntime(t, 0)
	spec := withDefaults(shell("sleep 1000"))
	s, err := r.Start(t.Context(), spec, Streams{})
	if err != nil {
		t.Fatal(err)
	}
	var bad *ErrInvalidSpec
	if _, err := r.Start(t.Context(), spec, Streams{}); !errors.As(err, &bad) || bad.Field != "ID" {
		t.Errorf("second start: %v", err)
	}
	s.Kill(EndCancelled)
	s.Wait()
	if s, err = r.Start(t.Context(), spec, Streams{}); err != nil {
		t.Fatalf("the ID is not free again: %v", err)
	}
	s.Kill(EndCancelled)
	s.Wait()
}

func TestUsersAreBounded(t *testing.T) {
	needRoot(t)
	r, err := New(Config{CgroupParent: newParent(), UIDBase: 2_140_000_000, UIDCount: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if _, err := r.Start(t.Context(), withDefaults(shell("sleep 1000")), Streams{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{}); err == nil || !strings.Contains(err.Error(), "user IDs are in use") {
		t.Errorf("third start: %v", err)
	}
}

func TestClose(t *testing.T) { both(t, testClose) }

func testClose(t *testing.T, r *Runtime) {
	var wg sync.WaitGroup
	for range 4 {
		s, err := r.Start(t.Context(), withDefaults(shell("sleep 1000")), Streams{})
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { wantReason(t, outcome{Result: s.Wait()}, EndShutdown) })
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if _, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{}); !errors.Is(err, ErrClosed) {
		t.Errorf("start after close: %v", err)
	}
}

// A step of the setup that fails is named, and nothing is run.
func TestFailedSetupIsExplained(t *testing.T) {
	r := testRuntime(t, 0)
	spec, err := withDefaults(shell("true")).normalize()
	if err != nil {
		t.Fatal(err)
	}
	spec.Mounts = []Mount{{Source: hostDir(t, 0, 0o755, 0o644), Target: "/etc/x"}} // Validate would refuse it
	s := newSandbox(r, spec)
	if err := r.reserve(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	defer r.release(s)
	defer s.undo()
	err = s.openCell(t.Context(), spec)
	var cannot *ErrCannotIsolate
	if !errors.As(err, &cannot) || !strings.Contains(err.Error(), "make /etc/x: read-only file system") {
		t.Errorf("got %v", err)
	}
}
