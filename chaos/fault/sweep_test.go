package fault

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/chaos/fault/disk"
	"holdfast/chaos/fault/group"
)

const victimEnv = "FAULT_TEST_TESTER"

// victim is a tester that has frozen a process and a disk, and is then killed.
func victim() error {
	dir, lock, err := newFolder()
	if err != nil {
		return err
	}
	defer lock.Close()
	ctx := context.Background()
	d, err := disk.New(ctx, filepath.Join(dir, "node1"), 32)
	if err != nil {
		return err
	}
	if err := d.Freeze(); err != nil {
		return err
	}
	// It waits in the kernel, where no signal ends it.
	stuck := exec.Command("/bin/sh", "-c", "echo x > "+dir+"/node1/file")
	// It is frozen by a cgroup, and only hears a signal once it is thawed.
	frozen := exec.Command("/bin/sh", "-c", "while :; do :; done # "+dir+"/")
	for _, cmd := range []*exec.Cmd{stuck, frozen} {
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return err
		}
	}
	g, err := group.New("freezer", frozen.Process.Pid, "sweep")
	if err != nil {
		return err
	}
	if err := g.Freeze(); err != nil {
		return err
	}
	if err := until(ctx, "all to stand still", func() error {
		if still, err := g.Frozen(); err != nil || !still {
			return fmt.Errorf("not frozen yet: %w", err)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", stuck.Process.Pid))
		if err == nil && !strings.Contains(string(b), ") D ") {
			err = fmt.Errorf("not stuck yet: %s", b)
		}
		return err
	}); err != nil {
		return err
	}
	fmt.Println("folder", dir)
	select {} // until it is killed
}

// A tester that is killed in the middle of its faults leaves processes that
// cannot die. The next one ends them.
func TestSweepAfterAKilledTester(t *testing.T) {
	if testing.Short() {
		t.Skip("needs root")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), victimEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS} // as launch.Private does
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	dir, ok := strings.CutPrefix(strings.TrimSpace(line), "folder ")
	if err != nil || !ok {
		_ = cmd.Process.Kill()
		t.Fatalf("the tester said %q: %v", line, err)
	}
	pid := cmd.Process.Pid
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()                 // it was killed
	busy, lock, err := newFolder() // of a tester that is at work
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(busy)
	defer lock.Close()
	if n := len(usersOf(dir)); n != 2 {
		t.Errorf("%d processes are left of the killed tester, want both: this test shows nothing", n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := Sweep(ctx); err != nil {
		t.Error(err)
	}
	if left := usersOf(dir); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s is left", dir)
	}
	if _, err := os.Stat(busy); err != nil {
		t.Errorf("the folder of a tester that is at work is gone: %v", err)
	}
	if groups, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/*/holdfast-chaos-%d-*", pid)); len(groups) > 0 {
		t.Errorf("%v is left", groups)
	}
}
