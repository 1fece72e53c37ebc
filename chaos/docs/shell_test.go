package docs_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/chaos/cluster"
)

// shell is one reader at one terminal: a bash that runs block after block, in
// a network namespace of its own, so that the pages' port numbers are free.
type shell struct {
	dir   string // also HOME
	cmd   *exec.Cmd
	in    *os.File
	done  *bufio.Scanner // one line per block: its status
	ended chan struct{}
	n     int
}

// newShell starts one. What it started ends with the test.
func newShell(t *testing.T, bin string) *shell {
	t.Helper()
	// A short path: a unix socket's is bounded by 108 bytes.
	dir, err := os.MkdirTemp("", "hfdocs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(bin, filepath.Join(dir, "bin", "holdfast")); err != nil {
		t.Fatal(err)
	}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	done, status, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &shell{dir: dir, in: in, done: bufio.NewScanner(done), ended: make(chan struct{})}
	s.cmd = exec.Command("bash", "--noprofile", "--norc")
	s.cmd.Dir, s.cmd.Env = dir, environment(dir)
	s.cmd.Stdin, s.cmd.ExtraFiles = stdin, []*os.File{status}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// Never unlocked: the thread with the other namespace ends with this
		// goroutine, and must not end before the child (parent-death signal).
		runtime.LockOSThread()
		err := ownNetwork()
		if err == nil {
			err = s.cmd.Start()
		}
		started <- err
		if err == nil {
			_ = s.cmd.Wait() // its status is told per block
			close(s.ended)
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start a shell: %v", err)
	}
	_, _ = stdin.Close(), status.Close()
	t.Cleanup(func() { s.close(t); _ = done.Close() })
	t.Cleanup(func() { s.showLogs(t) })
	return s
}

// environment is a newcomer's, with timers for people in a hurry.
func environment(home string) []string {
	env := []string{
		"HOME=" + home, "PATH=" + filepath.Join(home, "bin") + ":" + os.Getenv("PATH"),
		"HOLDFAST_STABLE=300ms", "HOLDFAST_DRAIN=500ms", "HOLDFAST_ATTEMPTS=60", "GORACE=atexit_sleep_ms=0",
	}
	for _, k := range []string{"LANG", "TMPDIR"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// ownNetwork gives this thread a network of its own, with loopback up.
func ownNetwork() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("make a network namespace: %w", err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// kill ends the shell and what it started at once.
func (s *shell) kill() { _ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL) }

// run runs a block and returns what it printed. It fails the test where a
// command ends otherwise than the block says.
func (s *shell) run(t *testing.T, text string, exit int) string {
	t.Helper()
	s.n++
	file := filepath.Join(s.dir, fmt.Sprintf(".block%d", s.n))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	mode := "-e" // any command
	if exit != 0 {
		mode = "+e" // the last one's status is asked for
	}
	if _, err := fmt.Fprintf(s.in, "set %s; source %s </dev/null >%s.out 2>&1 3>&-; echo $? >&3\n", mode, file, file); err != nil {
		t.Fatal(err)
	}
	ok := s.done.Scan()
	out, err := os.ReadFile(file + ".out")
	if err != nil {
		t.Fatal(err)
	}
	if got := s.done.Text(); !ok || got != fmt.Sprint(exit) {
		t.Fatalf("a command failed (status %q, want %d):\n%s\nprinted:\n%s", got, exit, text, out)
	}
	return string(out)
}

// background runs a block in a terminal of its own and waits until it has
// printed what is wanted.
func (s *shell) background(t *testing.T, ctx context.Context, text, want string) {
	t.Helper()
	s.n++
	file := filepath.Join(s.dir, fmt.Sprintf(".block%d", s.n))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(s.in, "bash -e %s </dev/null >%s.out 2>&1 3>&- &\n", file, file); err != nil {
		t.Fatal(err)
	}
	err := cluster.Until(ctx, "the output of "+text, func(context.Context) error {
		out, err := os.ReadFile(file + ".out")
		if err != nil {
			return err
		}
		return prints(string(out), want)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// prints reports whether out has the lines of want, in order.
func prints(out, want string) error {
	lines := strings.Split(out, "\n")
	for line := range strings.Lines(want) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		pattern := strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `.*`)
		pattern = regexp.MustCompile(`\s+`).ReplaceAllString(pattern, `\s+`)
		re := regexp.MustCompile(`^\s*` + pattern + `\s*$`)
		for len(lines) > 0 && !re.MatchString(lines[0]) {
			lines = lines[1:]
		}
		if len(lines) == 0 {
			return fmt.Errorf("the line %q did not come; printed:\n%s", line, out)
		}
		lines = lines[1:]
	}
	return nil
}

// showLogs prints the ends of the nodes' logs after a failure.
func (s *shell) showLogs(t *testing.T) {
	if !t.Failed() {
		return
	}
	files, _ := filepath.Glob(filepath.Join(s.dir, "*", "*.log")) // the pattern is well-formed
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		t.Logf("%s:\n%s", filepath.Base(f), b[max(0, len(b)-4000):])
	}
}

// closePatience is how long nodes may take to end politely.
const closePatience = 8 * time.Second

// close ends everything that the page started.
func (s *shell) close(t *testing.T) {
	_ = s.in.Close()
	ctx, cancel := context.WithTimeout(context.Background(), closePatience) // t's is over by now
	defer cancel()
	group := -s.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGCONT)
	_ = syscall.Kill(group, syscall.SIGTERM)
	err := cluster.Until(ctx, "the end of the page's processes", func(context.Context) error {
		if err := syscall.Kill(group, 0); err == nil {
			return fmt.Errorf("some still run")
		}
		return nil
	})
	if err != nil {
		_ = syscall.Kill(group, syscall.SIGKILL)
	}
	<-s.ended
	removeGroups(t, s.dir)
}

// removeGroups removes the cgroups of nodes that were killed and never started
// again; a start would have removed them.
func removeGroups(t *testing.T, dir string) {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "identity"))
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f)
		m := regexp.MustCompile(`"node_id":"([a-z2-7]{12})`).FindSubmatch(b)
		if m == nil {
			continue
		}
		roots, _ := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + string(m[1]))
		for _, root := range roots {
			entries, _ := os.ReadDir(root)
			for _, e := range entries {
				if e.IsDir() {
					_ = os.Remove(filepath.Join(root, e.Name()))
				}
			}
			if err := os.Remove(root); err != nil && !os.IsNotExist(err) {
				t.Logf("left over: %v", err)
			}
		}
	}
}
