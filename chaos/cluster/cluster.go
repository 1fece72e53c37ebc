package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"holdfast/client"
)

// Options say what to start.
type Options struct {
	Binary string    // path of holdfast
	Nodes  int       // default 3
	Dir    string    // folder for everything; default a new temporary one
	Args   []string  // further arguments of every start
	Env    []string  // further environment of every node
	Log    io.Writer // gets every node's log; default none
	// Listen gives node i's address; default a free loopback port.
	Listen func(i int) (string, error)
	// Wrap may change the command that starts node i, as to enter a network
	// namespace.
	Wrap func(i int, cmd *exec.Cmd)
	// Sockets has clients come by the unix socket of one node, as where its
	// address is out of reach.
	Sockets bool
	// Config is the text of every node's configuration file.
	Config string
}

// Node is one node of the cluster, running or not.
type Node struct {
	ID   string
	Addr string
	Dir  string
	Env  []string // further environment of its next start

	index int
	log   *tail

	mu      sync.Mutex
	process *process // of the last start; nil before the first
}

// Cluster is a set of nodes. Its methods are for one goroutine, but for
// Client's clients, and StartNode, which is for one goroutine per node. A
// node's own methods are for any.
type Cluster struct {
	Nodes      []*Node
	AdminToken string
	CAPin      string

	opt    Options
	ownDir bool
}

// Start makes a cluster and returns once every node votes and knows a leader.
func Start(ctx context.Context, opt Options) (*Cluster, error) {
	if opt.Nodes == 0 {
		opt.Nodes = 3
	}
	c := &Cluster{opt: opt}
	if opt.Dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-cluster-")
		if err != nil {
			return nil, fmt.Errorf("make a folder for the cluster: %w", err)
		}
		c.opt.Dir, c.ownDir = dir, true
	}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	for i := range c.opt.Nodes {
		if err := c.add(ctx, i); err != nil {
			return fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	// Autopilot keeps the number of voters odd, five at most.
	return c.WaitVoters(ctx, (min(c.opt.Nodes, 5)+1)/2*2-1)
}

// Grow adds one more node and starts it.
func (c *Cluster) Grow(ctx context.Context) (*Node, error) {
	if err := c.add(ctx, len(c.Nodes)); err != nil {
		return nil, err
	}
	return c.Nodes[len(c.Nodes)-1], nil
}

// initAnswer is what init and join print with --json.
type initAnswer struct {
	NodeID     string `json:"node_id"`
	AdminToken string `json:"admin_token"`
	CAPin      string `json:"ca_pin"`
}

func (c *Cluster) add(ctx context.Context, i int) error {
	listen := c.opt.Listen
	if listen == nil {
		listen = func(int) (string, error) { return FreeAddr() }
	}
	addr, err := listen(i)
	if err != nil {
		return err
	}
	n := &Node{Addr: addr, Dir: filepath.Join(c.opt.Dir, fmt.Sprintf("node%d", i+1)), index: i, log: &tail{}}
	if err := c.configure(n); err != nil {
		return err
	}
	common := []string{"--data", n.Dir, "--listen", addr, "--name", fmt.Sprintf("node%d", i+1), "--json"}
	var answer initAnswer
	if i == 0 {
		if err := c.Holdfast(ctx, n, &answer, append([]string{"init"}, common...)...); err != nil {
			return err
		}
		c.AdminToken, c.CAPin = answer.AdminToken, answer.CAPin
	} else {
		token, err := c.joinToken(ctx)
		if err != nil {
			return err
		}
		if err := c.Holdfast(ctx, n, &answer, append([]string{"join", "--token", token, "--addr", c.Running()[0].Addr}, common...)...); err != nil {
			return err
		}
	}
	n.ID = answer.NodeID
	c.Nodes = append(c.Nodes, n)
	if err := c.StartNode(n); err != nil {
		return err
	}
	return c.WaitReady(ctx, n)
}

// configure writes a node's configuration file, if there is to be one.
func (c *Cluster) configure(n *Node) error {
	if c.opt.Config == "" {
		return nil
	}
	if err := os.MkdirAll(n.Dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(n.Dir, "config.yaml"), []byte(c.opt.Config), 0o600)
}

func (c *Cluster) joinToken(ctx context.Context) (string, error) {
	cl, err := c.Client(c.Running()...)
	if err != nil {
		return "", err
	}
	defer cl.Close()
	t, err := cl.CreateToken(ctx, client.TokenRequest{Role: "node", TTL: client.Duration(time.Hour), Uses: 1})
	if err != nil {
		return "", fmt.Errorf("create a join token: %w", err)
	}
	return t.Secret, nil
}

// environ is every process's environment. Autopilot waits for a new node to
// be healthy for a moment only: nobody here has time.
func (c *Cluster) environ() []string {
	return slices.Concat(os.Environ(), []string{"HOLDFAST_STABLE=300ms"}, c.opt.Env)
}

// Holdfast runs one command of the binary to its end and reads its JSON.
func (c *Cluster) Holdfast(ctx context.Context, n *Node, into any, args ...string) error {
	cmd := exec.CommandContext(ctx, c.opt.Binary, args...)
	cmd.Env = c.environ()
	if c.opt.Wrap != nil {
		c.opt.Wrap(n.index, cmd)
	}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("holdfast %s: %w\n%s", args[0], err, strings.TrimSpace(errOut.String()))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(out.Bytes(), into); err != nil {
		return fmt.Errorf("holdfast %s: read its answer: %w\n%s", args[0], err, out.String())
	}
	return nil
}

// StartNode starts a node's process, for the first time or again.
func (c *Cluster) StartNode(n *Node) error {
	args := append([]string{"start", "--data", n.Dir, "--listen", n.Addr}, c.opt.Args...)
	cmd := exec.Command(c.opt.Binary, args...)
	cmd.Env = append(c.environ(), n.Env...)
	var log io.Writer = n.log
	if c.opt.Log != nil {
		log = io.MultiWriter(n.log, c.opt.Log)
	}
	cmd.Stdout, cmd.Stderr = log, log
	// The log goes through a pipe: without this a grandchild that holds it
	// would keep Wait from returning after kill -9.
	cmd.WaitDelay = time.Second
	if c.opt.Wrap != nil {
		c.opt.Wrap(n.index, cmd)
	}
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.process = p
	n.mu.Unlock()
	return nil
}

// current is the process of the last start.
func (n *Node) current() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.process
}

// Kill ends a node with SIGKILL and returns once it is reaped.
func (n *Node) Kill() error { return n.current().kill() }

// Signal sends a signal to a node's process.
func (n *Node) Signal(s os.Signal) error { return n.current().signal(s) }

// Pause stops a node's process; Resume lets it go on.
func (n *Node) Pause() error { return n.current().signal(syscall.SIGSTOP) }

// Resume lets a paused node go on.
func (n *Node) Resume() error { return n.current().signal(syscall.SIGCONT) }

// PID is the process ID of a running node.
func (n *Node) PID() int { return n.current().cmd.Process.Pid }

// Alive reports whether the node's process has not ended.
func (n *Node) Alive() bool {
	p := n.current()
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Ended is closed once the node's process has been reaped.
func (n *Node) Ended() <-chan struct{} { return n.current().done }

// ExitCode is the status of a process that ended, -1 after a signal.
func (n *Node) ExitCode() int {
	p := n.current()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Log is the end of the node's log.
func (n *Node) Log() string { return n.log.String() }

// Running is every node whose process has not ended.
func (c *Cluster) Running() []*Node {
	var out []*Node
	for _, n := range c.Nodes {
		if n.Alive() {
			out = append(out, n)
		}
	}
	return out
}

// closePatience is how long Close lets the nodes end by themselves.
const closePatience = 5 * time.Second

// Close ends every process, politely first, and removes the folder and what a
// killed node left in the kernel.
func (c *Cluster) Close() error {
	var errs []error
	patience, cancel := context.WithTimeout(context.Background(), closePatience) // ours alone
	defer cancel()
	for _, n := range c.Running() {
		_ = n.current().signal(syscall.SIGCONT) // a paused process hears nothing else
		_ = n.current().signal(syscall.SIGTERM)
	}
	for _, n := range c.Running() {
		select {
		case <-n.current().done:
		case <-patience.Done():
			errs = append(errs, n.current().kill())
		}
	}
	for _, n := range c.Nodes {
		errs = append(errs, removeGroups(n))
	}
	if c.ownDir {
		errs = append(errs, os.RemoveAll(c.opt.Dir))
	}
	return errors.Join(errs...)
}

// removeGroups removes the empty cgroups that a node leaves when it is killed
// and never started again; a start would have removed them.
func removeGroups(n *Node) error {
	if len(n.ID) < 12 {
		return nil // never made
	}
	roots, err := filepath.Glob("/sys/fs/cgroup/*/holdfast-" + n.ID[:12])
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := removeTree(root); err != nil {
			return fmt.Errorf("remove what node %s left: %w", n.ID, err)
		}
	}
	return nil
}

// groupPatience is how long the processes of a killed node may take to leave
// their cgroups: the kernel ends them after the node, one by one.
const groupPatience = 5 * time.Second

// removeTree removes a cgroup with those below it, once they are empty.
func removeTree(root string) error {
	ctx, cancel := context.WithTimeout(context.Background(), groupPatience) // Close has none
	defer cancel()
	return Until(ctx, "an empty cgroup", func(context.Context) error {
		entries, err := os.ReadDir(root)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		dirs := []string{root}
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(root, e.Name()))
			}
		}
		for _, dir := range slices.Backward(dirs) { // the root last
			if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}
