package group_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/fault/group"
	"holdfast/chaos/fault/launch/launchtest"
)

func TestMain(m *testing.M) { launchtest.Main(m) }

// process runs a shell script.
func process(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func newGroup(t *testing.T, controller string, pid int) *group.Group {
	t.Helper()
	g, err := group.New(controller, pid, fmt.Sprintf("test-%d", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return g
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestFreeze(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	cmd := process(t, "while :; do echo x >> "+count+"; sleep 0.005; done")
	size := func() int64 {
		st, err := os.Stat(count)
		if err != nil {
			return 0
		}
		return st.Size()
	}
	until(t, "it writes", func() bool { return size() > 0 })
	g := newGroup(t, "freezer", cmd.Process.Pid)
	if err := g.Freeze(); err != nil {
		t.Fatal(err)
	}
	until(t, "it is frozen", func() bool { f, err := g.Frozen(); return err == nil && f })
	// A program that the shell had started before may end its own write.
	var still int64
	until(t, "nothing is written any more", func() bool {
		before := still
		still = size()
		return still == before && still > 0
	})
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	until(t, "it goes on", func() bool { return size() > still })
}

func TestCPU(t *testing.T) {
	cmd := process(t, "while :; do :; done")
	g := newGroup(t, "cpu", cmd.Process.Pid)
	if err := g.LimitCPU(0.05); err != nil {
		t.Fatal(err)
	}
	until(t, "it is held back", func() bool { n, err := g.Throttled(); return err == nil && n > 3 })
}

func TestMemory(t *testing.T) {
	// It grows once the file is there.
	start := filepath.Join(t.TempDir(), "start")
	cmd := process(t, "until [ -e "+start+" ]; do sleep 0.01; done; x=0123456789; while :; do x=$x$x; done")
	g := newGroup(t, "memory", cmd.Process.Pid)
	if err := g.LimitMemory(16 << 20); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(start, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	until(t, "the kernel kills it", func() bool { n, err := g.OOMKills(); return err == nil && n > 0 })
}

func TestUnknownControllerIsRefused(t *testing.T) {
	if _, err := group.New("levitation", os.Getpid(), "x"); err == nil || !strings.Contains(err.Error(), "levitation") {
		t.Errorf("%v", err)
	}
}
