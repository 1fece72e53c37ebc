package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// groupPIDs lists the host's process IDs of a sandbox.
func groupPIDs(t testing.TB, s *Sandbox) []int {
	t.Helper()
	files, err := s.group.OpenProcs()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		f.Close()
	}
	b, err := os.ReadFile(files[0].Name())
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, f := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

// guards P7
func TestAttackForkBomb(t *testing.T) {
	count := func(off control, warm int) int {
		o := probe(t, poolRuntime(t, off, warm), Spec{Limits: Limits{PIDs: 24}}, "forks", "60")
		wantExit(t, o, 0)
		for l := range lines(o.stdout) {
			if n, ok := strings.CutPrefix(l, "children "); ok {
				c, _ := strconv.Atoi(n)
				return c
			}
		}
		t.Fatalf("no count: %s", o)
		return 0
	}
	for warm := range 2 {
		if n := count(0, warm); n >= 24 || n == 0 {
			t.Errorf("%d children within a limit of 24 processes and threads", n)
		}
	}
	if n := count(ctlCgroups, 0); n != 60 {
		t.Errorf("without limits the test sees %d children of 60", n)
	}
}

func TestMemoryHog(t *testing.T) { both(t, testMemoryHog) }

func testMemoryHog(t *testing.T, r *Runtime) {
	lim := Limits{MemoryBytes: 64 << 20, TmpBytes: 256 << 20}
	o := probe(t, r, Spec{Limits: lim}, "memory", "200")
	wantReason(t, o, EndOutOfMemory)
	if o.Usage.MemoryPeakBytes < 48<<20 || o.Usage.MemoryPeakBytes > 65<<20 { // some charges are forced
		t.Errorf("peak of %d bytes", o.Usage.MemoryPeakBytes)
	}
	// /tmp and /dev/shm are memory too.
	for _, dir := range []string{"/tmp", "/dev/shm"} {
		o := runSpec(t, r, Spec{Command: []string{"/bin/dd", "if=/dev/zero", "of=" + dir + "/x", "bs=1M", "count=200"}, Limits: lim})
		wantReason(t, o, EndOutOfMemory)
	}
	// A child that dies of it, with a parent that copes.
	spec := shell("dd if=/dev/zero of=/dev/null bs=200M count=1; echo coped")
	spec.Limits = lim
	if o := runSpec(t, r, spec); o.Reason != EndExit || !strings.Contains(o.stdout, "coped") || o.Message == "" {
		t.Errorf("want exit with a message: %s", o)
	}
	if o := probe(t, testRuntime(t, ctlCgroups), Spec{Limits: lim}, "memory", "200"); o.Reason != EndExit {
		t.Errorf("without limits the test sees nothing: %s", o)
	}
}

func TestTmpIsBounded(t *testing.T) { both(t, testTmpIsBounded) }

func testTmpIsBounded(t *testing.T, r *Runtime) {
	o := runSpec(t, r, Spec{Command: []string{"/bin/dd", "if=/dev/zero", "of=/tmp/x", "bs=1M", "count=20"}, Limits: Limits{TmpBytes: 8 << 20}})
	wantExit(t, o, 1)
	if !strings.Contains(o.stderr, "No space left") {
		t.Errorf("%s", o)
	}
}

// The share is judged by the attempt's own accounting: CPU time over its time.
func TestCPUHogIsThrottled(t *testing.T) {
	share := func(off control) float64 {
		o := probe(t, testRuntime(t, off), Spec{Limits: Limits{CPUMillis: 100, WallTime: 1500 * time.Millisecond}}, "spin")
		wantReason(t, o, EndTimeout)
		return o.Usage.CPU.Seconds() / o.Usage.Wall.Seconds()
	}
	if s := share(0); s > 0.2 || s == 0 {
		t.Errorf("took %.2f of a CPU, granted 0.10", s)
	}
	if s := share(ctlCgroups); s < 0.22 {
		t.Logf("without limits it took %.2f of a CPU: the machine is too busy to tell", s)
	}
}

func TestTimeoutKillsEverything(t *testing.T) { both(t, testTimeoutKillsEverything) }

func testTimeoutKillsEverything(t *testing.T, r *Runtime) {
	spec := shell("trap '' TERM HUP INT; (setsid sleep 1000 &); (sleep 1000 & kill -STOP $!); echo up; while :; do sleep 1; done")
	spec.Limits.WallTime = 400 * time.Millisecond
	s, out, _ := start(t, r, spec)
	var pids []int
	eventually(t, "the children run", func() bool {
		select {
		case <-s.Done():
			return true
		default:
		}
		if now := groupPIDs(t, s); len(now) > len(pids) {
			pids = now
		}
		return len(pids) >= 5
	})
	res := s.Wait()
	wantReason(t, outcome{res, out.String(), ""}, EndTimeout)
	wantGone(t, pids)
}

// wantGone fails for any process that still lives. A zombie is dead: the
// launcher of a killed node waits for the machine's init to reap it.
func wantGone(t testing.TB, pids []int) {
	t.Helper()
	if len(pids) == 0 {
		t.Fatal("no processes were seen")
	}
	for _, pid := range pids {
		eventually(t, "process "+strconv.Itoa(pid)+" gone", func() bool {
			b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
			if err != nil {
				return os.IsNotExist(err) || errors.Is(err, unix.ESRCH)
			}
			_, after, _ := strings.Cut(string(b), ") ")
			return strings.HasPrefix(after, "Z") || strings.HasPrefix(after, "X")
		})
	}
}

// The smallest limits that are valid suffice for a small command.
func TestSmallestLimits(t *testing.T) { both(t, testSmallestLimits) }

func testSmallestLimits(t *testing.T, r *Runtime) {
	spec := Spec{Command: []string{"/bin/true"}, Limits: Limits{MemoryBytes: MinMemoryBytes, CPUMillis: MinCPUMillis, PIDs: 1, TmpBytes: 4096}}
	wantExit(t, runSpec(t, r, spec), 0)
	spec = shell("/bin/true")
	spec.Limits.PIDs = 1
	if o := runSpec(t, r, spec); o.ExitCode == 0 {
		// The shell itself is the one process: some shells execute the last
		// command without a fork, so only a second one must fail.
		spec = shell("/bin/true & wait $!")
		spec.Limits.PIDs = 1
		if o := runSpec(t, r, spec); o.ExitCode == 0 {
			t.Errorf("a second process started: %s", o)
		}
	}
}
