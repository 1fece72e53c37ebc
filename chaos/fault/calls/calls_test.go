package calls_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/chaos/fault/calls"
	"holdfast/chaos/fault/launch"
	"holdfast/chaos/fault/launch/launchtest"
)

const childEnv = "CALLS_TEST_FILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" && len(os.Args) == 1 {
		work(path)
		return
	}
	launchtest.Main(m)
}

// work writes and syncs a file for each line on standard input, and says how
// each went.
func work(path string) {
	f, err := os.Create(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		_, werr := f.WriteAt([]byte("x"), 0)
		serr := f.Sync()
		fmt.Println(said(werr), said(serr))
	}
}

func said(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, syscall.EIO):
		return "EIO"
	}
	return strings.ReplaceAll(err.Error(), " ", "_")
}

// child is a supervised process that works on demand.
type child struct {
	t   *testing.T
	in  *os.File
	out *bufio.Reader
}

func start(t *testing.T, s *calls.Supervisor, path string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	theirs, ours, err := calls.Socket()
	if err != nil {
		t.Fatal(err)
	}
	if err := launch.Wrap(cmd, launch.Options{Watch: calls.Watched, Supervisor: theirs}); err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stderr = r, os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_, _ = r.Close(), w.Close()
	})
	if err := s.Accept(ours); err != nil {
		t.Fatal(err)
	}
	return &child{t, w, bufio.NewReader(out)}
}

func (c *child) work() string {
	c.t.Helper()
	if _, err := c.in.WriteString("go\n"); err != nil {
		c.t.Fatal(err)
	}
	line, err := c.out.ReadString('\n')
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func TestCallsFailAndWait(t *testing.T) {
	dir := t.TempDir()
	s, err := calls.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the child has ended
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	c := start(t, s, filepath.Join(dir, "file"))
	expect := func(want ...string) {
		t.Helper()
		for i, w := range want {
			if got := c.work(); got != w {
				t.Errorf("time %d: %s, want %s", i+1, got, w)
			}
		}
	}
	expect("ok ok")
	any := func(calls.Call) bool { return true }

	writes := s.Set(calls.Rule{Match: func(c calls.Call) bool { return c.Write }, Errno: syscall.EIO})
	expect("EIO ok", "EIO ok")
	writes.Remove()
	expect("ok ok")

	fifth := s.Set(calls.Rule{Match: func(c calls.Call) bool { return !c.Write }, Errno: syscall.EIO, Nth: 5})
	expect("ok ok", "ok ok", "ok ok", "ok ok", "ok EIO", "ok ok")
	if n := fifth.Struck(); n != 1 {
		t.Errorf("%d calls were struck, want the fifth alone", n)
	}
	fifth.Remove()

	slow := s.Set(calls.Rule{Match: any, Delay: 60 * time.Millisecond})
	begun := time.Now()
	expect("ok ok")
	if took := time.Since(begun); took < 120*time.Millisecond {
		t.Errorf("two slow calls took %s", took)
	}
	slow.Remove()

	elsewhere := s.Set(calls.Rule{Match: func(c calls.Call) bool { return filepath.Base(c.Path) == "other" }, Errno: syscall.EIO})
	expect("ok ok")
	if n := elsewhere.Struck(); n != 0 {
		t.Errorf("%d calls of another file were struck", n)
	}
}

// Files of other folders are never touched.
func TestOtherFoldersAreLeftAlone(t *testing.T) {
	s, err := calls.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	s.Set(calls.Rule{Match: func(calls.Call) bool { return true }, Errno: syscall.EIO})
	c := start(t, s, filepath.Join(t.TempDir(), "file"))
	if got := c.work(); got != "ok ok" {
		t.Errorf("a file of another folder: %s", got)
	}
	if s.Seen() == 0 {
		t.Error("no call was asked about")
	}
}
