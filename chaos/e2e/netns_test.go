package e2e

import (
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"holdfast/chaos/cluster"
)

// wires is a switch with one cable to each node, all in network namespaces
// that end with the test's processes.
type wires struct {
	t     *testing.T
	hub   string // process that holds the switch's namespace
	nodes []string
}

// layWires makes the namespaces for n nodes.
func layWires(t *testing.T, n int) *wires {
	t.Helper()
	needRoot(t)
	w := &wires{t: t}
	w.hub = w.namespace()
	w.in(w.hub, "ip", "link", "add", "hub", "type", "bridge")
	w.in(w.hub, "ip", "link", "set", "hub", "up")
	for i := range n {
		pid := w.namespace()
		port := fmt.Sprintf("port%d", i)
		w.in(w.hub, "ip", "link", "add", port, "type", "veth", "peer", "name", "net", "netns", pid)
		w.in(w.hub, "ip", "link", "set", port, "master", "hub", "up")
		w.in(pid, "ip", "link", "set", "lo", "up")
		w.in(pid, "ip", "addr", "add", fmt.Sprintf("10.77.0.%d/24", i+1), "dev", "net")
		w.in(pid, "ip", "link", "set", "net", "up")
		w.nodes = append(w.nodes, pid)
	}
	return w
}

// namespace starts a process that does nothing but hold a namespace, and
// returns its ID.
func (w *wires) namespace() string {
	w.t.Helper()
	cmd := exec.Command("sleep", "infinity")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := cmd.Start(); err != nil {
		w.t.Fatalf("make a network namespace: %v", err)
	}
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return strconv.Itoa(cmd.Process.Pid)
}

func (w *wires) in(pid string, args ...string) {
	w.t.Helper()
	command(w.t, "nsenter", append([]string{"--net=/proc/" + pid + "/ns/net"}, args...)...)
}

// cut pulls a node's cable; mend puts it back.
func (w *wires) cut(i int)  { w.in(w.hub, "ip", "link", "set", fmt.Sprintf("port%d", i), "down") }
func (w *wires) mend(i int) { w.in(w.hub, "ip", "link", "set", fmt.Sprintf("port%d", i), "up") }

// options put node i behind cable i. The clients come by the nodes' sockets.
func (w *wires) options() cluster.Options {
	return cluster.Options{
		Nodes: len(w.nodes), Sockets: true,
		Listen: func(i int) (string, error) { return fmt.Sprintf("10.77.0.%d:7700", i+1), nil },
		Wrap: func(i int, cmd *exec.Cmd) {
			nsenter, err := exec.LookPath("nsenter")
			if err != nil {
				w.t.Fatal(err)
			}
			cmd.Args = append([]string{nsenter, "--net=/proc/" + w.nodes[i] + "/ns/net", cmd.Path}, cmd.Args[1:]...)
			cmd.Path = nsenter
		},
	}
}
