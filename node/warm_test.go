package node

import (
	"fmt"
	"testing"

	"holdfast/client"
)

func TestDefaultWarm(t *testing.T) {
	for _, c := range []struct {
		cores  int
		memory int64
		want   int
	}{{2, 8 << 30, 32}, {2, 512 << 20, 8}, {1, 32 << 20, 0}, {64, 1 << 40, defaultMaxWarm}} {
		if got := defaultWarm(c.cores, c.memory); got != c.want {
			t.Errorf("%d for %d cores and %d bytes, want %d", got, c.cores, c.memory, c.want)
		}
	}
	n := &Node{cfg: Config{Sandbox: SandboxConfig{WarmMax: -1}}}
	if got := n.warmMax(); got != 0 {
		t.Errorf("%d where none are wanted", got)
	}
}

// A node has a warm sandbox for the task that follows another.
func TestNodeKeepsWarmSandboxes(t *testing.T) {
	n := oneNode(t)
	c := socketClient(t, n)
	if s := n.sandbox.Stats(); s.Ready != 0 {
		t.Errorf("%+v before the first task", s)
	}
	run := func() {
		task, err := c.Submit(t.Context(), client.TaskSpec{Command: []string{"/bin/true"}})
		if err == nil {
			task, err = c.Wait(t.Context(), task.ID)
		}
		if err != nil || task.State != "succeeded" {
			t.Fatalf("%+v, %v", task, err)
		}
	}
	run()
	until(t, "a warm sandbox", func() error {
		if s := n.sandbox.Stats(); s.Ready == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	run()
	if s := n.sandbox.Stats(); s.Warm != 1 || s.Cold != 1 {
		t.Errorf("%+v after two tasks", s)
	}
}

// oneNode is a cluster of one.
func oneNode(t *testing.T) *Node {
	t.Helper()
	cfg := testConfig(t, "a")
	if _, err := Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	n := startNode(t, cfg)
	ready(t, n)
	return n
}
