package workertest

import (
	"context"
	"errors"
	"io"
	"net"
	"time"

	"holdfast/fsm"
	"holdfast/node/worker/lease"
)

func (n *Node) workers() (workers []lease.Worker) {
	for _, v := range n.State.Nodes() {
		if v.Registered && !v.Lost && !v.Removed {
			workers = append(workers, lease.Worker{Node: v.ID, Incarnation: v.Incarnation})
		}
	}
	return workers
}

// catchUp applies what the node has not; the caller holds the cluster's mu.
func (n *Node) catchUp() (last fsm.Applied) {
	for n.State.Index() < uint64(len(n.c.log)) {
		index := n.State.Index() + 1
		applied, err := n.State.Apply(index, n.c.log[index-1])
		if err != nil {
			n.c.t.Errorf("apply %d on %s: %v", index, n.ID, err)
			return
		}
		n.Keeper.Notify(applied.Changes)
		n.scheduler.Notify(applied.Changes)
		n.Hub.Notify(applied.Changes)
		last = applied
	}
	return last
}

func (n *Node) propose(ctx context.Context, commands [][]byte) ([]fsm.Result, error) {
	pause(ctx, n.c.cfg.Latency)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if n.c.leader != n.index || n.cut {
		return nil, ErrNotLeader
	}
	// As consensus does it: what an office decided is not committed in a later
	// one, not even of the same node.
	if term, bound := ctx.Value(officeKey{}).(uint64); bound && term != n.c.term {
		return nil, ErrNotLeader
	}
	n.c.log = append(n.c.log, fsm.EncodeBatch(time.Now().UnixNano(), commands))
	applied := n.catchUp()
	for _, other := range n.c.Nodes {
		if !other.cut {
			other.catchUp()
		}
	}
	return applied.Results, nil
}

func (n *Node) verify(ctx context.Context) error {
	pause(ctx, n.c.cfg.Latency)
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.leader != n.index || n.cut {
		return ErrNotLeader
	}
	return ctx.Err()
}

func (n *Node) register(ctx context.Context, incarnation uint64) error {
	n.c.mu.Lock()
	leader, cut := n.c.Nodes[n.c.leader], n.cut
	n.c.mu.Unlock()
	if cut {
		return ErrNotLeader
	}
	body := fsm.RegisterNode{Node: fsm.Node{ID: n.ID, Addr: "127.0.0.1:1", Incarnation: incarnation,
		CPUMillis: uint32(n.c.cfg.Capacity.CPUMillis), MemoryBytes: uint64(n.c.cfg.Capacity.MemoryBytes)}}
	command, err := fsm.NewCommand(fsm.CmdRegisterNode, fsm.RequestID{}, "test", body)
	if err != nil {
		return err
	}
	results, err := leader.propose(ctx, [][]byte{command})
	if err != nil {
		return err
	}
	if results[0].Code != fsm.OK {
		return errors.New(results[0].Detail)
	}
	return nil
}

// connect opens a stream to the current leader's hub.
func (n *Node) connect(ctx context.Context) (io.ReadWriteCloser, error) {
	n.c.mu.Lock()
	leader := n.c.Nodes[n.c.leader]
	if n.loyal != nil {
		leader = n.loyal
	}
	n.c.mu.Unlock()
	return n.ConnectTo(ctx, leader)
}

// ConnectTo opens a stream to a node's hub, whether it leads or not.
func (n *Node) ConnectTo(_ context.Context, leader *Node) (io.ReadWriteCloser, error) {
	c := n.c
	near, far := net.Pipe()
	a, b := newLink(near), newLink(far)
	c.mu.Lock()
	if n.index != leader.index && n.loyal != leader && (n.cut || leader.cut) {
		c.mu.Unlock()
		_, _ = near.Close(), far.Close()
		return nil, errors.New("no route")
	}
	if n.index != leader.index {
		n.conns = append(n.conns, a, b)
		leader.conns = append(leader.conns, a, b)
	}
	c.mu.Unlock()
	c.group.Go(func() { _ = leader.Hub.Serve(c.ctx, n.ID, b) })
	return a, nil
}
