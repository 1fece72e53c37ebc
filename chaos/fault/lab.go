package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"holdfast/chaos/cluster"
	"holdfast/chaos/fault/calls"
	"holdfast/chaos/fault/disk"
	"holdfast/chaos/fault/launch"
	"holdfast/chaos/fault/wire"
	"holdfast/chaos/history"
	"holdfast/chaos/scenario"
)

// Options say what to start.
type Options struct {
	Binary   string // path of holdfast
	Previous string // an earlier build, for rolling upgrades; may be empty
	First    string // the build that nodes start with; default Binary
	Nodes    int
	Config   string // text of every node's configuration file
	Env      map[string]string
	DiskMiB  int
	Needs    []scenario.Need
	Seed     uint64
	Dir      string    // folder for the nodes; default a new temporary one
	Log      io.Writer // gets every node's log
	// History, if set, records what faults themselves submit.
	History *history.Writer
	// Note is told what happens, for people.
	Note func(format string, args ...any)
}

// Lab is a cluster that can be broken.
type Lab struct {
	opt     Options
	cluster *cluster.Cluster
	net     *wire.Switch // nil on loopback
	dir     string
	ownDir  bool
	lock    *os.File // of our own folder

	growing sync.Mutex // one node at a time; taken before mu
	place   *Node      // whose address the node that is being added takes; under growing

	mu    sync.Mutex
	nodes []*Node
	owner map[*Node]*Strike // whose the node's process is
}

// Node is one node of the lab.
type Node struct {
	Name string
	*cluster.Node

	disk  *disk.Disk
	calls *calls.Supervisor
	port  *wire.Port
	asker asker
	// replaces is the name by which clients know its address, if it has that
	// of a node that is gone.
	replaces string
	binary   string      // of its next start
	gone     atomic.Bool // for good
}

// nodeEnv has nodes with short patience, as nobody here has time, and room for
// more tasks than this machine has cores.
var nodeEnv = map[string]string{"HOLDFAST_DRAIN": "1s", "HOLDFAST_CPU_MILLIS": "4000", "HOLDFAST_SANDBOX_WARM_MAX": "4"}

// Start makes a lab whose nodes are all up and vote as many as there are to
// vote. With the needs of network or disk this process must be in namespaces of
// its own (launch.Private).
func Start(ctx context.Context, opt Options) (*Lab, error) {
	l := &Lab{opt: opt, dir: opt.Dir, owner: map[*Node]*Strike{}}
	if l.opt.Note == nil {
		l.opt.Note = func(string, ...any) {}
	}
	if l.dir == "" {
		if err := Sweep(ctx); err != nil {
			l.opt.Note("remove what a killed tester left: %v", err)
		}
		dir, lock, err := newFolder()
		if err != nil {
			return nil, fmt.Errorf("make a folder for the cluster: %w", err)
		}
		l.lock = lock
		l.dir, l.ownDir = dir, true
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a cluster: %w", err), l.Close(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (l *Lab) start(ctx context.Context) error {
	if l.needs(scenario.NeedSwitch) {
		l.net = wire.New(l.opt.Seed)
		if _, err := l.net.AddHere(clientsName); err != nil {
			return err
		}
	}
	var env []string
	for _, m := range []map[string]string{nodeEnv, l.opt.Env} {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			env = append(env, k+"="+m[k])
		}
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Binary: l.opt.Binary, Nodes: l.opt.Nodes, Dir: l.dir, Env: env, Log: l.opt.Log, Config: l.opt.Config,
		Listen: func(i int) (string, error) { return l.prepare(ctx, i) },
		Wrap:   l.wrap,
	})
	if err != nil {
		return err
	}
	l.cluster = c
	l.adopt()
	return nil
}

func (l *Lab) needs(n scenario.Need) bool { return slices.Contains(l.opt.Needs, n) }

// clientsName is the switch's port of this process.
const clientsName = "clients"

// nodePort is every node's port behind the switch.
const nodePort = "7700"

// prepare makes what node i needs before it is made, and gives its address.
func (l *Lab) prepare(ctx context.Context, i int) (string, error) {
	n := &Node{Name: fmt.Sprintf("node%d", i+1), binary: l.opt.Binary}
	if l.opt.First != "" {
		n.binary = l.opt.First
	}
	l.mu.Lock()
	l.nodes = append(l.nodes, n)
	l.mu.Unlock()
	dir := filepath.Join(l.dir, n.Name)
	if l.needs(scenario.NeedDisk) {
		d, err := disk.New(ctx, dir, l.opt.DiskMiB)
		if err != nil {
			return "", err
		}
		n.disk = d
	}
	if l.needs(scenario.NeedCalls) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		s, err := calls.New(dir)
		if err != nil {
			return "", err
		}
		n.calls = s
	}
	if old := l.place; old != nil { // under growing, which grow holds
		n.port, n.replaces = old.port, old.Place()
		return old.Addr, nil
	}
	if l.net == nil {
		return cluster.FreeAddr()
	}
	p, err := l.net.Add(n.Name)
	if err != nil {
		return "", err
	}
	n.port = p
	return net.JoinHostPort(p.Addr.String(), nodePort), nil
}

// wrap has a command of node i run where the node is, and its start under
// supervision.
func (l *Lab) wrap(i int, cmd *exec.Cmd) {
	l.mu.Lock()
	n := l.nodes[i]
	binary := n.binary
	l.mu.Unlock()
	cmd.Path, cmd.Args[0] = binary, binary
	starts := len(cmd.Args) > 1 && cmd.Args[1] == "start"
	opt := launch.Options{}
	if n.port != nil {
		opt.Namespace = n.port.Namespace()
	}
	if n.calls != nil && starts {
		theirs, ours, err := calls.Socket()
		if err != nil {
			cmd.Err = err
			return
		}
		opt.Watch, opt.Supervisor = calls.Watched, theirs
		go func() {
			// A process that ends before it has handed over is seen to end.
			if err := n.calls.Accept(ours); err != nil {
				l.opt.Note("%s: %v", n.Name, err)
			}
			_ = theirs.Close()
		}()
	}
	if opt.Namespace == "" && opt.Watch == nil {
		return
	}
	if err := launch.Wrap(cmd, opt); err != nil {
		cmd.Err = err
	}
}

// Place is the name by which clients know the node's address.
func (n *Node) Place() string {
	if n.replaces != "" {
		return n.replaces
	}
	return n.Name
}

// adopt binds the lab's nodes to the cluster's.
func (l *Lab) adopt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, n := range l.cluster.Nodes {
		if l.nodes[i].Node == nil { // the others are read without the lock
			l.nodes[i].Node = n
		}
	}
}

// Nodes are those that have not ended for good.
func (l *Lab) Nodes() []*Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.nodes), func(n *Node) bool { return n.gone.Load() || n.Node == nil })
}

// Access is what a client needs: addresses in the order of the nodes, the
// admin's token, and the pin of the cluster's CA.
func (l *Lab) Access() (addrs []string, token, pin string) {
	for _, n := range l.Nodes() {
		addrs = append(addrs, n.Addr)
	}
	return addrs, l.cluster.AdminToken, l.cluster.CAPin
}

// Dir is the folder of all nodes.
func (l *Lab) Dir() string { return l.dir }

// grow adds a node and starts it, at the address of one that is gone, so that
// clients find it, or at a new one.
func (l *Lab) grow(ctx context.Context, place *Node) (*Node, error) {
	l.growing.Lock()
	defer l.growing.Unlock()
	l.place = place
	_, err := l.cluster.Grow(ctx)
	if err != nil {
		l.mu.Lock() // what was prepared is not used
		n := l.nodes[len(l.nodes)-1]
		unused := n.Node == nil && len(l.nodes) > len(l.cluster.Nodes)
		if unused {
			l.nodes = l.nodes[:len(l.nodes)-1]
		}
		l.mu.Unlock()
		if unused {
			err = errors.Join(err, n.close(context.WithoutCancel(ctx)))
		}
		return nil, fmt.Errorf("add a node: %w", err)
	}
	l.adopt()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[len(l.nodes)-1], nil
}

// retire takes a node out of the lab for good; it has left the cluster.
func (l *Lab) retire(n *Node) error {
	if err := n.Kill(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n.gone.Store(true)
	return nil
}

// closePatience bounds the end of what nodes used.
const closePatience = 20 * time.Second

// Close ends every process and removes everything.
func (l *Lab) Close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	var errs []error
	for _, n := range l.Nodes() {
		if n.disk != nil {
			errs = append(errs, n.disk.Thaw()) // a frozen disk keeps its processes
		}
	}
	if l.cluster != nil {
		errs = append(errs, l.cluster.Close())
	}
	l.mu.Lock()
	nodes := l.nodes
	l.mu.Unlock()
	for _, n := range nodes {
		errs = append(errs, n.close(ctx))
	}
	if l.net != nil {
		errs = append(errs, l.net.Close())
	}
	if l.ownDir {
		errs = append(errs, os.RemoveAll(l.dir), l.lock.Close())
	}
	return errors.Join(errs...)
}

func (n *Node) close(ctx context.Context) error {
	var errs []error
	n.asker.close()
	if n.calls != nil {
		errs = append(errs, n.calls.Close())
	}
	if n.disk != nil {
		errs = append(errs, n.disk.Close(ctx))
	}
	return errors.Join(errs...)
}

// Restart starts the process of a node that has ended, as a service manager
// does.
func (l *Lab) Restart(n *Node) error { return l.cluster.StartNode(n.Node) }
