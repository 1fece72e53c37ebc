package workertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker"
	"holdfast/node/worker/dispatch"
	"holdfast/node/worker/lease"
	"holdfast/node/worker/protocol"
)

// ErrNotLeader is what a proposal or verification gets on a deposed leader.
var ErrNotLeader = errors.New("this node does not lead")

// Leader is what a scheduler gets to work with.
type Leader struct {
	State   *fsm.State
	Propose func(ctx context.Context, commands [][]byte) ([]fsm.Result, error)
}

// Scheduler is the part of the leader that is not this room's: Notify hears of
// changes, Run assigns until ctx ends.
type Scheduler interface {
	Notify([]fsm.Change)
	Wake()
	Run(ctx context.Context)
}

// Config shapes a Cluster.
type Config struct {
	Nodes     int
	Lease     time.Duration
	Capacity  worker.Capacity
	Latency   time.Duration // of a commit and of a verification
	Script    func(protocol.Key) Script
	Scheduler func(Leader) Scheduler
	// MayBeRemoved lets workers end with worker.ErrRemoved.
	MayBeRemoved bool
}

// Cluster is a set of nodes, of which one leads at a time.
type Cluster struct {
	t    testing.TB
	cfg  Config
	ctx  context.Context
	Book *Book

	group sync.WaitGroup
	stop  context.CancelFunc

	mu     sync.Mutex
	log    [][]byte
	leader int // -1 = nobody
	term   uint64
	Nodes  []*Node
}

// Node is one node: a replica, and the processes on it.
type Node struct {
	ID       fsm.NodeID
	Executor *Executor
	Worker   *worker.Worker
	Keeper   *lease.Keeper
	Hub      *dispatch.Hub
	State    *fsm.State

	c         *Cluster
	index     int
	cut       bool
	loyal     *Node // whom its worker takes for the leader, whatever happens
	conns     []*link
	scheduler Scheduler
	office    context.CancelFunc // of its latest office
	crash     context.CancelFunc // of its worker; nil = not running
	run       uint64             // incarnation
}

// New makes a cluster whose nodes are admitted and whose first node leads. Call
// Close before the bubble ends.
func New(t testing.TB, cfg Config) *Cluster {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	c := &Cluster{t: t, cfg: cfg, ctx: ctx, stop: stop, Book: NewBook(), leader: -1}
	for i := range cfg.Nodes {
		n := &Node{ID: fsm.NodeID(fmt.Sprintf("node-%d", i)), c: c, index: i, State: fsm.New(fsm.Limits{})}
		n.Keeper = lease.NewKeeper(lease.Config{Duration: cfg.Lease, Workers: n.workers, Propose: n.propose})
		n.scheduler = cfg.Scheduler(Leader{State: n.State, Propose: n.propose})
		n.Hub = dispatch.New(dispatch.Config{State: n.State, Leases: n.Keeper, Propose: n.propose,
			Verify: n.verify, Reported: n.scheduler.Wake})
		c.Nodes = append(c.Nodes, n)
	}
	c.Lead(0)
	c.Do(c.Nodes[0], fsm.CmdInitCluster, fsm.InitCluster{ClusterID: "sim", CACert: []byte{1}, CAKey: []byte{2}, First: c.Nodes[0].ID})
	token := fsm.CreateToken{ID: "join", Role: fsm.RoleNode, Hash: [32]byte{1}}
	c.Do(c.Nodes[0], fsm.CmdCreateToken, token)
	for _, n := range c.Nodes[1:] {
		c.Do(c.Nodes[0], fsm.CmdAdmitNode, fsm.AdmitNode{TokenID: "join", Hash: [32]byte{1}, Node: n.ID})
	}
	for i := range c.Nodes {
		c.Start(i)
	}
	return c
}

// Close stops everything and waits for it.
func (c *Cluster) Close() {
	c.stop()
	c.mu.Lock()
	for _, n := range c.Nodes {
		for _, l := range n.conns {
			_ = l.Close()
		}
	}
	c.mu.Unlock()
	c.group.Wait()
}

// Do commits one command through a node and fails the test if it is refused.
func (c *Cluster) Do(n *Node, kind fsm.CommandType, body any) fsm.Result {
	c.t.Helper()
	command, err := fsm.NewCommand(kind, fsm.RequestID{}, "test", body)
	if err != nil {
		c.t.Fatal(err)
	}
	results, err := n.propose(c.ctx, [][]byte{command})
	if err != nil || results[0].Code != fsm.OK {
		c.t.Fatalf("command %v: %+v, %v", kind, results, err)
	}
	return results[0]
}

// Submit queues n tasks of one shape and returns the first one's ID.
func (c *Cluster) Submit(n int, shape fsm.Shape, grace time.Duration) fsm.TaskID {
	c.t.Helper()
	spec, err := fsm.Marshal(fsm.Spec{Command: []string{"true"}, Shape: shape, KillGrace: grace})
	if err != nil {
		c.t.Fatal(err)
	}
	submit := fsm.Submit{Tasks: make([]fsm.Submission, n)}
	for i := range submit.Tasks {
		submit.Tasks[i] = fsm.Submission{Shape: shape, Spec: spec}
	}
	return c.Do(c.Leader(), fsm.CmdSubmit, submit).First
}

// Leader is the node that leads now.
func (c *Cluster) Leader() *Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Nodes[c.leader]
}

// officeKey is the context key of the term that an office is for.
type officeKey struct{}

// Lead makes a node the leader of the next term. The former one is not told:
// call Depose for that.
func (c *Cluster) Lead(i int) {
	c.mu.Lock()
	c.term++
	c.leader = i
	term := c.term
	n := c.Nodes[i]
	n.catchUp()
	workers := make([]*worker.Worker, 0, len(c.Nodes))
	for _, other := range c.Nodes {
		if other.Worker != nil && !other.cut {
			workers = append(workers, other.Worker)
		}
	}
	ctx, cancel := context.WithCancel(context.WithValue(c.ctx, officeKey{}, term))
	n.office = cancel
	c.mu.Unlock()
	c.group.Go(func() { n.Keeper.Run(ctx) })
	c.group.Go(func() { n.Hub.Lead(ctx, term) })
	c.group.Go(func() { n.scheduler.Run(ctx) })
	for _, w := range workers {
		w.LeaderChanged()
	}
}

// Depose tells a former leader that it is one.
func (c *Cluster) Depose(i int) {
	c.mu.Lock()
	cancel := c.Nodes[i].office
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// Cut takes a node off the network without a word; Heal brings it back.
func (c *Cluster) Cut(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.Nodes[i]
	n.cut = true
	for _, l := range n.conns {
		l.silence()
	}
	n.conns = nil
}

// Heal ends a Cut.
func (c *Cluster) Heal(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.Nodes[i].cut = false
	c.Nodes[i].catchUp()
}

// Isolate leaves two nodes to themselves: the worker of one keeps its session
// with the other, which is cut off from everybody else and still believes that
// it leads.
func (c *Cluster) Isolate(old, with *Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old.cut, with.cut = true, true
	with.loyal = old
}

// Start starts a node's worker as a new process.
func (c *Cluster) Start(i int) {
	n := c.Nodes[i]
	n.run++
	incarnation := n.run
	n.Executor = &Executor{Node: n.ID, Book: c.Book, Script: c.cfg.Script}
	w := worker.New(worker.Config{Node: n.ID, Incarnation: incarnation, Capacity: c.cfg.Capacity, Connect: n.connect,
		Register: func(ctx context.Context) error { return n.register(ctx, incarnation) },
		Executor: n.Executor, Outputs: Outputs{}})
	ctx, cancel := context.WithCancel(c.ctx)
	c.mu.Lock()
	n.Worker, n.crash = w, cancel
	c.mu.Unlock()
	c.group.Go(func() {
		err := w.Run(ctx)
		if err != nil && !(c.cfg.MayBeRemoved && errors.Is(err, worker.ErrRemoved)) {
			c.t.Errorf("worker of %s: %v", n.ID, err)
		}
	})
}

// Crash ends a node's worker process; its sandboxes die with it.
func (c *Cluster) Crash(i int) {
	n := c.Nodes[i]
	c.mu.Lock()
	cancel := n.crash
	n.crash = nil
	c.mu.Unlock()
	if cancel != nil {
		cancel()
		n.Executor.Crash()
	}
}

// Terminal says how many of the tasks from first on are terminal.
func (c *Cluster) Terminal(first fsm.TaskID, n int) int {
	state, done := c.Leader().State, 0
	for id := first; id < first+fsm.TaskID(n); id++ {
		if v, ok := state.Task(id); ok && v.State.Terminal() {
			done++
		}
	}
	return done
}

// Await polls in the bubble's time until a condition holds.
func (c *Cluster) Await(limit time.Duration, what string, holds func() bool) {
	c.t.Helper()
	for end := time.Now().Add(limit); !holds(); pause(c.ctx, 10*time.Millisecond) {
		if time.Now().After(end) {
			c.t.Fatalf("after %v still not: %s", limit, what)
		}
	}
}
