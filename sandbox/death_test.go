package sandbox

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// runNode is a node in a process of its own, for the tests that kill it: it
// starts two sandboxes, prints the processes and waits for its end.
func runNode(parent string) {
	r, err := New(Config{CgroupParent: parent, Warm: 2})
	if err != nil {
		panic(err)
	}
	pids := []int{r.launcher.proc.Pid}
	for i := range 2 {
		spec := shell("trap '' TERM HUP; (setsid sleep 1000 &); sleep 1000 & echo up; wait")
		spec.ID, spec.Env = fmt.Sprint("a", i), []string{"PATH=/bin"}
		pr, pw, err := os.Pipe()
		if err != nil {
			panic(err)
		}
		s, err := r.Start(neverEnds{}, spec, Streams{Stdout: pw})
		if err != nil {
			panic(err)
		}
		if _, err := bufio.NewReader(pr).ReadString('\n'); err != nil {
			panic(err)
		}
		for _, d := range procsFiles(s) {
			b, _ := os.ReadFile(d)
			for _, f := range strings.Fields(string(b)) {
				var pid int
				_, _ = fmt.Sscan(f, &pid)
				pids = append(pids, pid)
			}
			break
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(pids)
	if os.Getenv("HOLDFAST_HOLD") == "" {
		select {}
	}
	for range time.Tick(50 * time.Millisecond) {
		r.Extend(testHold)
	}
}

// testHold is what a node with HOLDFAST_HOLD extends its sandboxes' life by.
const testHold = 2 * time.Second

// neverEnds is a context for a process that is killed.
type neverEnds struct{}

func (neverEnds) Deadline() (d time.Time, ok bool) { return }
func (neverEnds) Done() <-chan struct{}            { return nil }
func (neverEnds) Err() error                       { return nil }
func (neverEnds) Value(any) any                    { return nil }

func procsFiles(s *Sandbox) []string {
	files, _ := s.group.OpenProcs()
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
		f.Close()
	}
	return names
}

func startNode(t *testing.T, parent string) (*exec.Cmd, []int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_NODE="+parent)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var pids []int
	if err := json.NewDecoder(out).Decode(&pids); err != nil {
		t.Fatalf("the node said nothing: %v", err)
	}
	if len(pids) < 1+2*4 {
		t.Fatalf("only processes %v", pids)
	}
	return cmd, pids
}

// guards P3
func TestKilledNodeTakesItsSandboxesAlong(t *testing.T) {
	needRoot(t)
	parent := newParent()
	node, pids := startNode(t, parent)
	second := Config{CgroupParent: parent}
	r, err := New(second)
	if err != nil {
		t.Fatal(err)
	}
	var cannot *ErrCannotIsolate
	if err := r.Check(); !errors.As(err, &cannot) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second node with the same parent: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); err != nil {
			t.Errorf("process %d is not there before the kill", pid)
		}
	}
	if err := node.Process.Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pids)
	_ = node.Wait()

	// Its successor finds their groups and leaves nothing.
	r, err = New(second)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := r.RemoveStale(); n < 2 || err != nil { // and perhaps two warm ones
		t.Errorf("removed %d stale sandboxes, %v", n, err)
	}
	if n, err := r.RemoveStale(); n != 0 || err != nil {
		t.Errorf("removed %d more, %v", n, err)
	}
	o := runSpec(t, r, shell("true"))
	wantExit(t, o, 0)
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	wantNoCgroups(t, parent)
}

func wantNoCgroups(t testing.TB, parent string) {
	t.Helper()
	left, _ := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + parent)
	if len(left) > 0 {
		t.Errorf("cgroups stay: %v", left)
	}
}

// A stopped node is no reason for its sandboxes to outlive its death.
func TestKilledWhileStopped(t *testing.T) {
	needRoot(t)
	parent := newParent()
	node, pids := startNode(t, parent)
	for _, sig := range []unix.Signal{unix.SIGSTOP, unix.SIGKILL} {
		if err := node.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
	}
	wantGone(t, pids)
	_ = node.Wait()
	r, err := New(Config{CgroupParent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveStale(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A stopped node cannot kill its sandboxes, and loses its lease all the same.
// guards P3
func TestStoppedNodeLosesItsSandboxes(t *testing.T) {
	needRoot(t)
	t.Setenv("HOLDFAST_HOLD", "1")
	parent := newParent()
	node, pids := startNode(t, parent)
	began := time.Now()
	eventually(t, "extensions outlast the first hold", func() bool { return time.Since(began) > testHold+testHold/2 })
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprint("/proc/", pid)); err != nil {
			t.Errorf("process %d died while the node extended", pid)
		}
	}
	if err := node.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wantGone(t, pids)
	_ = node.Process.Kill()
	_ = node.Wait()
	r, err := New(Config{CgroupParent: parent})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.RemoveStale(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// When the launcher dies its sandboxes are lost, and the next start has a new one.
func TestKilledLauncher(t *testing.T) { both(t, testKilledLauncher) }

func testKilledLauncher(t *testing.T, r *Runtime) {
	s, _, _ := start(t, r, shell("sleep 1000"))
	pids := groupPIDs(t, s)
	if err := unix.Kill(r.launcher.proc.Pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if res := s.Wait(); res.Reason != EndLost {
		t.Errorf("%+v", res)
	}
	wantGone(t, pids)
	o, err := r.Start(t.Context(), withDefaults(shell("true")), Streams{}) // warm cells died too
	if err != nil {
		t.Fatal(err)
	}
	wantExit(t, outcome{Result: o.Wait()}, 0)
	stale, err := filepath.Glob("/sys/fs/cgroup/*/holdfast-test-*/" + s.id)
	if len(stale) > 0 || err != nil {
		t.Errorf("%v are left, %v", stale, err)
	}
}

// The name alone makes nobody a launcher.
func TestRunIfChildIsNotFooled(t *testing.T) {
	cmd := exec.Command(os.Args[0])
	cmd.Args = []string{launcherName}
	cmd.Env = append(os.Environ(), "HOLDFAST_PROBE=fds")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "0\n1\n2\n") {
		t.Errorf("%v: %s", err, out)
	}
}

// CVE-2019-5736: nothing in a sandbox leads to a writable descriptor of the
// node's program.
func TestOwnBinaryIsNotWritable(t *testing.T) {
	needRoot(t)
	f, err := openSelf(true)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Opening it would say "text file busy" while it runs, and nothing else.
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &fs); err != nil || fs.Flags&unix.ST_RDONLY == 0 {
		t.Errorf("the mount of the program has flags %x, %v", fs.Flags, err)
	}
	r := testRuntime(t, 0)
	exe, err := os.OpenFile(fmt.Sprintf("/proc/%d/exe", r.launcher.proc.Pid), os.O_WRONLY, 0)
	if err == nil {
		exe.Close()
		t.Error("the launcher's program can be written")
	} else if !errors.Is(err, unix.EROFS) && !errors.Is(err, unix.ETXTBSY) {
		t.Errorf("open the launcher's program: %v", err)
	}
	c, err := copySelf()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.WriteAt([]byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("write to the sealed copy: %v", err)
	}
	o := probe(t, r, Spec{}, "open", "/proc/1/exe", "/proc/1/root", "/proc/1/mem")
	if strings.Contains(o.stdout, " ok") {
		t.Errorf("%s", o)
	}
}
