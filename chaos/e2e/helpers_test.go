package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/client"
)

// patience bounds a whole test. A quiet machine needs a tenth of it.
const patience = 2 * time.Minute

// needRoot skips where sandboxes and mounts cannot work, except in CI.
func needRoot(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts whole clusters")
	case os.Geteuid() == 0:
	case os.Getenv("CI") == "true":
		t.Fatal("these tests need root")
	default:
		t.Skip("needs root")
	}
}

// bounded is a context for one test.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start runs a cluster until the test ends, and then looks through the nodes'
// logs for what must never be in one.
func start(t *testing.T, ctx context.Context, opt cluster.Options) *cluster.Cluster {
	t.Helper()
	needRoot(t)
	opt.Binary = program
	// Tests end with tasks that only a signal ends.
	opt.Env = append([]string{"HOLDFAST_DRAIN=500ms"}, opt.Env...)
	if opt.Dir == "" {
		opt.Dir = filepath.Join(scratch(t), "cluster")
	}
	logs := filepath.Join(scratch(t), "nodes.log")
	f, err := os.Create(logs)
	if err != nil {
		t.Fatal(err)
	}
	opt.Log = f
	t.Cleanup(func() {
		_ = f.Close()
		reviewLogs(t, logs)
	})
	c, err := cluster.Start(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("stop the cluster: %v", err)
		}
	})
	return c
}

// scratch is a new folder with a short path: a unix socket's is bounded by 108
// bytes.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hfe2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

var neverLogged = regexp.MustCompile(`(?m)^(panic:|fatal error:|WARNING: DATA RACE|unexpected fault address)`)

// keepLogs, if set, is a folder for the logs of failed tests.
const keepLogs = "HOLDFAST_E2E_LOGS"

func reviewLogs(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	if at := neverLogged.FindIndex(b); at != nil {
		t.Errorf("a node logged:\n%s", b[at[0]:min(len(b), at[0]+6000)])
	}
	if dir := os.Getenv(keepLogs); dir != "" && t.Failed() {
		if err := os.WriteFile(filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "_")+".log"), b, 0o600); err != nil {
			t.Error(err)
		}
	}
}

// dial makes a client of the given nodes, all by default.
func dial(t *testing.T, c *cluster.Cluster, nodes ...*cluster.Node) *client.Client {
	t.Helper()
	cl, err := c.Client(nodes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// shell is a small task: many fit on two CPUs.
func shell(name, script string) client.TaskSpec {
	return client.TaskSpec{
		Name: name, Command: []string{"/bin/sh", "-c", script},
		Resources: client.Resources{CPUMillis: 100, MemoryBytes: 32 << 20},
	}
}

// forever is a task that only a signal ends.
const forever = "exec sleep 100000"

func submit(t *testing.T, ctx context.Context, cl *client.Client, spec client.TaskSpec) *client.Task {
	t.Helper()
	task, err := cl.Submit(ctx, spec)
	if err != nil {
		t.Fatalf("submit %q: %v", spec.Name, err)
	}
	return task
}

// until waits for a condition.
func until(t *testing.T, ctx context.Context, what string, holds func(context.Context) error) {
	t.Helper()
	if err := cluster.Until(ctx, what, holds); err != nil {
		t.Fatal(err)
	}
}

// reach waits until a task is as wanted and returns it.
func reach(t *testing.T, ctx context.Context, cl *client.Client, id, what string, is func(*client.Task) bool) *client.Task {
	t.Helper()
	var task *client.Task
	until(t, ctx, fmt.Sprintf("task %s to be %s", id, what), func(ctx context.Context) error {
		one, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		var err error
		if task, err = cl.Get(one, id); err != nil {
			return err
		}
		if !is(task) {
			return fmt.Errorf("%s", describe(task))
		}
		return nil
	})
	return task
}

func describe(task *client.Task) string {
	s := fmt.Sprintf("task %s (%s) is %s, attempt %d on %.8s", task.ID, task.Name, task.State, task.Attempt, task.Node)
	if r := task.Result; r != nil {
		code := "none"
		if r.ExitCode != nil {
			code = fmt.Sprint(*r.ExitCode)
		}
		s += fmt.Sprintf(": %s, code %s, %s %q", r.Reason, code, r.Message, r.Tail)
	}
	return s
}

func running(task *client.Task) bool { return task.State == "running" }

// wait returns a task once it has ended as wanted.
func wait(t *testing.T, ctx context.Context, cl *client.Client, id, state string) *client.Task {
	t.Helper()
	task, err := cl.Wait(ctx, id)
	if err != nil {
		t.Fatalf("wait for task %s: %v", id, err)
	}
	if task.State != state {
		t.Fatalf("want %s, but %s", state, describe(task))
	}
	return task
}

// leader returns the cluster's leader and the other running nodes.
func leader(t *testing.T, ctx context.Context, c *cluster.Cluster) (*cluster.Node, []*cluster.Node) {
	t.Helper()
	l, err := c.Leader(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return l, slices.DeleteFunc(slices.Clone(c.Running()), func(n *cluster.Node) bool { return n == l })
}

// kill ends nodes as a power cut would.
func kill(t *testing.T, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// restart starts nodes that have ended and waits until they serve.
func restart(t *testing.T, ctx context.Context, c *cluster.Cluster, nodes ...*cluster.Node) {
	t.Helper()
	for _, n := range nodes {
		if err := c.StartNode(n); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range nodes {
		if err := c.WaitReady(ctx, n); err != nil {
			t.Fatal(err)
		}
	}
}

// ended waits for a node's process to end by itself and returns its status.
func ended(t *testing.T, ctx context.Context, n *cluster.Node) int {
	t.Helper()
	select {
	case <-n.Ended():
		return n.ExitCode()
	case <-ctx.Done():
		t.Fatalf("node %s did not end: %v\n%s", n.Addr, ctx.Err(), n.Log())
		return 0
	}
}

// nodeState is the condition that the cluster says this of a node.
func nodeState(cl *client.Client, id, state string) func(context.Context) error {
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		n, err := cl.Node(ctx, id)
		if err == nil && n.State != state {
			err = fmt.Errorf("%s", n.State)
		}
		return err
	}
}

// runOn has a task run on one node at first: the others are drained meanwhile.
func runOn(t *testing.T, ctx context.Context, cl *client.Client, c *cluster.Cluster, n *cluster.Node, spec client.TaskSpec) *client.Task {
	t.Helper()
	drain := func(yes bool) {
		t.Helper()
		for _, other := range c.Running() {
			if other == n {
				continue
			}
			if _, err := cl.Drain(ctx, other.ID, yes); err != nil {
				t.Fatal(err)
			}
		}
	}
	drain(true)
	defer drain(false)
	task := submit(t, ctx, cl, spec)
	task = reach(t, ctx, cl, task.ID, "running", running)
	if task.Node != n.ID {
		t.Fatalf("only node %.8s takes tasks, but %s", n.ID, describe(task))
	}
	return task
}

// undisturbed checks that a task still runs as its first attempt.
func undisturbed(t *testing.T, ctx context.Context, cl *client.Client, id string) {
	t.Helper()
	task, err := cl.Get(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if !running(task) || task.Attempt != 1 {
		t.Errorf("another node's fault disturbed this: %s", describe(task))
	}
}

// attempt is the condition that a task runs as its n-th attempt.
func attempt(n int) func(*client.Task) bool {
	return func(task *client.Task) bool { return running(task) && task.Attempt == n }
}

// memberAddrs is the condition that the cluster knows where every node is.
func memberAddrs(c *cluster.Cluster) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, n := range c.Running() {
			st, err := c.Status(ctx, n)
			if err != nil {
				return err
			}
			for _, m := range st.Members {
				for _, other := range c.Nodes {
					if m.ID == other.ID && m.Addr != other.Addr {
						return fmt.Errorf("node %s says that %.8s is at %s, it is at %s", n.Addr, m.ID, m.Addr, other.Addr)
					}
				}
			}
		}
		return nil
	}
}
